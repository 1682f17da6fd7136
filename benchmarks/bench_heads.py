"""Head patching, all heads by replay, against one hooked pass for each head. Prints the ratios of one run.

python benchmarks/bench_heads.py            # the demo model, and GPT-2 XL's shape with random weights
python benchmarks/bench_heads.py demo       # one of them: demo, gpt2-xl, or gpt2-xl-12 (a quarter of its blocks)
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from timing import Ratio, save, seconds
from torch import Tensor
from torch.testing import assert_close

import steerlens as sl
from steerlens.concepts import InContextTask, TaskPrompt, task_prompts
from steerlens.interventions import head_effects, mean_head_outputs
from steerlens.models import TokenBatch, load_model, random_model, tiny_tokenizer

NOUNS = "cat dog tree car hat book river stone lamp door bird shoe king queen ship wall cloud spoon lion duck"
TASK = InContextTask("plural", tuple((w, w + "s") for w in NOUNS.split()))
TARGET = 10.0


@dataclass(frozen=True)
class Bench:
    """A model, and how much of it a machine can bear.

    Args:
        n_prompts: Prompts, of which replay and hooks make one batch each.
        n_shots: Examples of each prompt.
        sampled: Heads that are patched the slow way, spread over the model; their time counts for all heads.
        repeats: Of both ways, in turns.
    """

    name: str
    model: sl.LensModel
    n_prompts: int
    n_shots: int
    sampled: int
    repeats: int


def demo() -> Bench:
    """SmolLM2-135M-Instruct in float32, ten examples as published."""
    return Bench("demo", sl.load_model("smollm2-135m-instruct"), n_prompts=4, n_shots=10, sampled=6, repeats=3)


def gpt2_xl(n_layers: int = 48) -> Bench:
    """GPT-2 XL: the size, with random weights; its tokens are letters, so three examples are long enough.

    With fewer blocks the unembedding, which replay does once a head, takes a larger share: the ratio is a lower bound.
    """
    from transformers import GPT2Config

    config = GPT2Config(n_layer=n_layers, n_embd=1600, n_head=25)
    model = load_model(random_model(config, dtype="float32"), tokenizer=tiny_tokenizer(add_bos=False), dtype="float32")
    name = "gpt2-xl" if n_layers == 48 else f"gpt2-xl, {n_layers} of 48 blocks"
    return Bench(name, model, n_prompts=2, n_shots=3, sampled=4, repeats=2)


def ratio(bench: Bench) -> Ratio:
    """Time of the slow way, for all heads by extrapolation from some, over that of replay."""
    model = bench.model
    right, wrong = (
        task_prompts(TASK, TASK[: bench.n_prompts], format="qa", n_shots=bench.n_shots, shuffled=shuffled, seed=0)
        for shuffled in (False, True)
    )
    mean_heads = mean_head_outputs(model, right)
    n_all = model.n_layers * model.n_heads
    chosen = [divmod(round((i + 0.5) * n_all / bench.sampled - 0.5), model.n_heads) for i in range(bench.sampled)]
    by_hand = _one_at_a_time(model, wrong, mean_heads, chosen)
    found = head_effects(model, wrong, mean_heads)
    together = torch.stack([found.log_prob[head] + found.base_log_prob for head in chosen])
    assert_close(together, by_hand, rtol=0, atol=1e-3)
    values = []
    for _ in range(bench.repeats):
        slow = seconds(lambda: _one_at_a_time(model, wrong, mean_heads, chosen)) * n_all / bench.sampled
        values.append(slow / seconds(lambda: head_effects(model, wrong, mean_heads)))
    longest = max(len(ids) for ids in model.encode_all([p.prompt for p in wrong]))
    name = f"{bench.name}: {n_all} heads, {bench.n_prompts} prompts of {longest} tokens"
    return Ratio.of(name, values, TARGET)


@torch.no_grad()
def _one_at_a_time(
    model: sl.LensModel, prompts: tuple[TaskPrompt, ...], mean_heads: Tensor, heads: list[tuple[int, int]]
) -> Tensor:
    """Log-probabilities with each head patched, one hooked pass over all prompts each, unembedding the last token."""
    alone = model.encode_all([p.prompt for p in prompts])
    whole = model.encode_all([p.prompt + p.answer for p in prompts])
    answers = torch.tensor([ids[len(a)] for ids, a in zip(whole, alone, strict=True)])
    batch = TokenBatch.from_rows(alone, pad_id=model.pad_id, padding_side="left")

    def rows() -> Iterator[Tensor]:
        for layer, head in heads:

            def patch(z: Tensor, hook: object, at: tuple[int, int] = (layer, head)) -> Tensor:
                z = z.clone()
                z[:, -1, at[1]] = mean_heads[at].to(z)
                return z

            with model.bridge.hooks(fwd_hooks=[(f"blocks.{layer}.attn.hook_z", patch)]):
                logits = model.logits(batch, keep_last=1)[:, -1]
            yield logits.float().log_softmax(-1).gather(1, answers[:, None])[:, 0].double()

    return torch.stack(list(rows()))


def main() -> None:
    wanted = sys.argv[1:] or ["demo", "gpt2-xl"]
    builders = {"demo": demo, "gpt2-xl": gpt2_xl, "gpt2-xl-12": lambda: gpt2_xl(12)}
    print("one hooked pass a head / all heads by replay")
    ratios = []
    for name in wanted:
        ratios.append(ratio(builders[name]()))
        print(ratios[-1], flush=True)
    print(save("heads" if len(wanted) > 1 else f"heads-{wanted[0]}", ratios))


if __name__ == "__main__":
    main()
