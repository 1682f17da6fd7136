"""Every budget of speed as a ratio measured in one run. Prints the ratios and writes them to benchmarks/results.

python benchmarks/bench_budgets.py                   # the demo model, and GPT-2 XL with random weights in bfloat16
python benchmarks/bench_budgets.py demo              # one of them: demo, gpt2-xl, or gpt2-xl-float32

On a CPU without bfloat16 instructions GPT-2 XL in bfloat16 takes most of an hour; float32 is eight times faster there.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from sweeps import STRENGTHS, Sweep, plain_operations
from timing import Ratio, interleaved, save, seconds
from torch.testing import assert_close

import steerlens as sl
from steerlens.models import TokenBatch, load_model, random_model, tiny_tokenizer

TEXT = "The first thing that anyone noticed about the harbour was how quiet it had become since the ferries stopped. "


@dataclass(frozen=True)
class Bench:
    """A model, the same architecture in plain Hugging Face, and how much of it a machine can bear."""

    name: str
    model: sl.LensModel
    plain: Any
    n_prompts: int
    sampled: int
    repeats: int
    new_tokens: int
    strengths: tuple[float, ...] = STRENGTHS


def demo() -> Bench:
    """SmolLM2-135M-Instruct in float32."""
    from transformers import AutoModelForCausalLM

    from steerlens.models._demo import demo_folder

    model = sl.load_model("smollm2-135m-instruct")
    plain = AutoModelForCausalLM.from_pretrained(demo_folder(), dtype=torch.float32, local_files_only=True)
    return Bench("demo", model, plain.eval(), n_prompts=8, sampled=14, repeats=5, new_tokens=32)


def gpt2_xl(dtype: str = "bfloat16") -> Bench:
    """GPT-2 XL: the size, with random weights."""
    from transformers import GPT2Config
    from transformers.pytorch_utils import Conv1D

    config = GPT2Config(n_layer=48, n_embd=1600, n_head=25)
    model = load_model(random_model(config, dtype=dtype), tokenizer=tiny_tokenizer(add_bos=False), dtype=dtype)
    plain = random_model(config, dtype=dtype)
    if dtype == "bfloat16":
        # As steerlens does on loading: GPT-2's layout of matrices is many times slower in bfloat16 on a CPU without
        # AMX, and is not what is to be compared.
        for module in plain.modules():
            if isinstance(module, Conv1D):
                module.weight.data = module.weight.data.t().contiguous().t()
    return Bench(
        f"gpt2-xl-{dtype}", model, plain, n_prompts=4, sampled=2, repeats=2, new_tokens=8, strengths=(1.0, 2.0)
    )


def extraction(bench: Bench) -> Iterator[Ratio]:
    """All blocks' residual streams of pairs of texts, against a plain forward of the same batch."""
    prompt = bench.model.tokenizer.decode(bench.model.encode(TEXT * 3)[:56])
    endings = [(" good" * (i + 1), " bad" * (i + 1)) for i in range(bench.n_prompts)]
    pairs = tuple(sl.ContrastivePair(prompt, *pair, group=str(i)) for i, pair in enumerate(endings))
    texts = [prompt + ending for pair in endings for ending in pair]
    dataset = sl.ConceptDataset("texts", pairs)
    sites = [sl.Site.resid_post(layer) for layer in range(bench.model.n_layers)]
    batch = bench.model.to_tokens(texts)

    @torch.no_grad()
    def plain() -> None:
        bench.plain(input_ids=batch.ids, attention_mask=batch.attention_mask, use_cache=False)

    def ours() -> None:
        sl.extract(bench.model, dataset, sites, batch_tokens=batch.ids.numel())

    times = interleaved(plain, ours, repeats=bench.repeats)
    yield Ratio.of("extraction of all blocks / plain forward", [p / o for p, o in times], 0.95)


def sweeps(bench: Bench) -> Iterator[Ratio]:
    """Replay against hooks in whole passes, and against its own floor."""
    for label, tokens, target, n, strengths in (
        ("last-token", sl.LastToken(), 25.0, bench.n_prompts, STRENGTHS),
        ("all-token", sl.AllTokens(), 2.5, max(1, bench.n_prompts // 2), bench.strengths),
    ):
        sweep = Sweep.make(bench.model, tokens, n_prompts=n, strengths=strengths)
        every = len(sweep.interventions)
        which = [round((i + 0.5) * every / bench.sampled - 0.5) for i in range(bench.sampled)]
        noise = 1e-3 if bench.model.dtype == torch.float32 else 0.5
        assert_close(sweep.by_replay()[which], sweep.by_hand(which), atol=noise, rtol=0)
        operations = plain_operations(bench.model, n, sweep.ids.shape[1])
        speed, floor = [], []
        for _ in range(bench.repeats):
            before = seconds(lambda s=sweep: _forward(bench.plain, s.ids))
            replayed = seconds(sweep.by_replay)
            after = seconds(lambda s=sweep: _forward(bench.plain, s.ids))
            hooked = seconds(lambda s=sweep, w=which: s.by_hand(w)) * every / len(which)
            speed.append(hooked / replayed)
            floor.append(sweep.floating_operations() / operations * (before + after) / 2 / replayed)
        yield Ratio.of(f"{label} sweep, {every} interventions, {n} prompts / hooked passes", speed, target)
        yield Ratio.of(f"{label} sweep: its own floor / time", floor, 0.6)


@torch.no_grad()
def _forward(plain: Any, ids: torch.Tensor) -> None:
    plain(input_ids=ids, use_cache=False)


def generation(bench: Bench) -> Iterator[Ratio]:
    """Steered generation against unsteered Hugging Face, and many strengths at once against one by one."""
    shift = sl.maps.random_direction(bench.model.d_model, norm=1.0, seed=0)
    site = sl.Site.resid_post(bench.model.n_layers // 2)
    for size, target in ((1, 0.9), (8, 0.95)):
        prompts = [TEXT] * size
        batch = bench.model.to_tokens(prompts, padding_side="left")
        times = interleaved(
            lambda b=batch: _generate(bench, b),
            lambda p=prompts: _steered(bench, p, {site: shift}),
            repeats=bench.repeats,
        )
        yield Ratio.of(f"steered generation, batch {size} / Hugging Face", [p / o for p, o in times], target)
    rows = sl.grid([{site: shift}], range(10))
    times = interleaved(
        lambda: sl.generate(bench.model, [TEXT], rows, max_new_tokens=bench.new_tokens),
        lambda: [_steered(bench, [TEXT], one.plan, one.strength) for one in rows],
        repeats=max(1, bench.repeats // 3),
    )
    yield Ratio.of("ten strengths in one generation / one after another", [a / t for t, a in times])


def _steered(bench: Bench, prompts: list[str], plan: Any, strength: float = 1.0) -> None:
    with sl.steer(bench.model, plan, strength=strength):
        bench.model.generate(prompts, max_new_tokens=bench.new_tokens)


@torch.no_grad()
def _generate(bench: Bench, batch: TokenBatch) -> None:
    bench.plain.generate(
        input_ids=batch.ids,
        attention_mask=batch.attention_mask,
        max_new_tokens=bench.new_tokens,
        min_new_tokens=bench.new_tokens,
        do_sample=False,
        pad_token_id=bench.model.pad_id,
    )


def imports() -> Iterator[Ratio]:
    """`import steerlens` in a new process, less the start of Python: 0.2 s over the time taken."""

    def run(code: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True))

    times = [(run("pass"), run("import steerlens")) for _ in range(5)]
    yield Ratio.of("import steerlens: 0.2 s / time", [0.2 / max(b - a, 1e-3) for a, b in times], 1.0)


def main(names: list[str]) -> None:
    makers = {"demo": demo, "gpt2-xl": gpt2_xl, "gpt2-xl-float32": lambda: gpt2_xl("float32")}
    unknown = [n for n in names if n not in makers]
    if unknown:
        sys.exit(f"There is no benchmark {unknown[0]!r}; there are {', '.join(makers)}.")
    for name in names or ("demo", "gpt2-xl"):
        bench = makers[name]()
        print(f"\n{bench.model!r}", flush=True)
        found: list[Ratio] = []
        parts = [extraction(bench), sweeps(bench), generation(bench)]
        parts += [imports()] if name == "demo" else []
        for part in parts:
            for ratio in part:
                print(ratio, flush=True)
                found.append(ratio)
        print(save(bench.name, found, model=repr(bench.model)))


if __name__ == "__main__":
    main(sys.argv[1:])
