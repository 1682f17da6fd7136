"""GPT-2 XL at full size, in the memory of a small machine."""

import json
import subprocess
import sys

import pytest

CHILD = """
import json, resource, time
import torch
import steerlens as sl
from transformers import GPT2Config
from steerlens.models import load_model, random_model, tiny_tokenizer
start = time.perf_counter()
config = GPT2Config(n_layer=48, n_embd=1600, n_head=25)
model = load_model(random_model(config), tokenizer=tiny_tokenizer(add_bos=False))
loaded = time.perf_counter() - start
logits = model.logits("The film was one of the best of all")
streams = {}
model.read("The film", ["blocks.40.hook_resid_post"], lambda name, x: streams.update({name: tuple(x.shape)}))
site = sl.Site.resid_post(20)
pairs = tuple(sl.ContrastivePair(f"The {w} was", " good", " bad", group=w) for w in ("film", "book", "meal"))
acts = sl.extract(model, sl.ConceptDataset("toy", pairs), [site])[site]
shift = sl.maps.MeanShift().fit(source=acts.negative, target=acts.positive)
with sl.steer(model, {site: shift}, strength=3.0):
    moved = float((model.logits("The film was one of the best of all") - logits).abs().max())
    text = model.generate("The film", max_new_tokens=3)
print(json.dumps({
    "moved": moved, "rows": list(acts.positive.shape), "text": text,
    "parameters": model.n_parameters, "dtype": str(model.dtype), "finite": bool(logits.isfinite().all()),
    "vocab": logits.shape[-1], "streams": streams, "load_s": loaded,
    "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
}))
"""


@pytest.mark.slow
def test_gpt2_xl_loads_extracts_and_steers_within_six_gigabytes() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["parameters"] == 1_557_611_200
    assert told["dtype"] == "torch.bfloat16"
    assert told["finite"]
    assert told["vocab"] == 50257
    assert told["streams"] == {"blocks.40.hook_resid_post": [1, 6, 1600]}
    assert told["rows"] == [3, 1600]
    assert told["moved"] > 0.01
    assert told["text"].startswith("The film")
    assert told["peak_gb"] < 6.0
