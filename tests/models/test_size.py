"""GPT-2 XL at full size, in the memory of a small machine."""

import json
import subprocess
import sys

import pytest

CHILD = """
import json, resource, time
import torch
from transformers import GPT2Config
from steerlens.models import load_model, random_model, tiny_tokenizer
start = time.perf_counter()
config = GPT2Config(n_layer=48, n_embd=1600, n_head=25)
model = load_model(random_model(config), tokenizer=tiny_tokenizer(add_bos=False))
loaded = time.perf_counter() - start
logits = model.logits("The film was one of the best of all")
streams = {}
model.read("The film", ["blocks.40.hook_resid_post"], lambda name, x: streams.update({name: tuple(x.shape)}))
print(json.dumps({
    "parameters": model.n_parameters, "dtype": str(model.dtype), "finite": bool(logits.isfinite().all()),
    "vocab": logits.shape[-1], "streams": streams, "load_s": loaded,
    "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
}))
"""


@pytest.mark.slow
def test_gpt2_xl_loads_and_runs_within_six_gigabytes() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["parameters"] == 1_557_611_200
    assert told["dtype"] == "torch.bfloat16"
    assert told["finite"]
    assert told["vocab"] == 50257
    assert told["streams"] == {"blocks.40.hook_resid_post": [1, 6, 1600]}
    assert told["peak_gb"] < 6.0
