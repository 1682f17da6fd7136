"""A process limited to little memory finishes, slower, with the same numbers."""

import json
import subprocess
import sys

import pytest

CHILD = """
import json, resource, sys
import torch
import steerlens as sl
from steerlens.interventions import _replay
from steerlens.models import TokenTree, columns_that_fit, load_model, random_model, tiny_tokenizer
from transformers import GPT2Config

torch.set_num_threads(1)
config = GPT2Config(n_layer=3, n_embd=96, n_head=4, vocab_size=40_000)
model = load_model(random_model(config, dtype="float32"), tokenizer=tiny_tokenizer(add_bos=False))
trees = [TokenTree(tuple(range(i, i + 9)), (tuple(range(50 + i, 90 + i)),)) for i in range(4)]
shift = sl.maps.random_direction(96, norm=4.0, seed=0)
many = sl.grid([{sl.Site.resid_post(layer): shift} for layer in (0, 1)], (1.0, 2.0, 3.0, 4.0))
out = torch.zeros(len(many), len(trees), dtype=torch.float64)
largest = 0

def keep(part):
    global largest
    largest = max(largest, part.logits.numel())
    sums = part.logits.logsumexp(-1).double().reshape(len(part.interventions), len(part.trees), -1).sum(-1)
    out[torch.tensor(part.interventions)[:, None], torch.tensor(part.trees)] = sums

def used():
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmSize:"))

keep_columns = columns_that_fit(model)
_replay.replay(model, trees[:1], many[:1], keep)
largest = 0
room, forced = int(sys.argv[1]), sys.argv[2] == "forced"
if room:
    resource.setrlimit(resource.RLIMIT_AS, (used() + room,) * 2)
if forced:
    _replay.columns_that_fit = lambda _: 100_000
else:
    keep_columns = columns_that_fit(model)
_replay.replay(model, trees, many, keep)
print(json.dumps({"scores": out.tolist(), "largest": largest, "columns": keep_columns}))
"""


def run(room: int, how: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(room), how], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits on address space are tried on Linux")
def test_limited_processes_finish_with_the_same_numbers():
    free, planned, surprised = run(0, "planned"), run(60_000_000, "planned"), run(60_000_000, "forced")
    assert planned["columns"] < free["columns"], "the plan does not see the limit"
    assert planned["largest"] < free["largest"]
    assert surprised["largest"] * 4 < 60_000_000, "a pass that did not fit was not halved"
    for told in (planned, surprised):
        for one, other in zip(told["scores"], free["scores"], strict=True):
            assert one == pytest.approx(other, rel=1e-5)
