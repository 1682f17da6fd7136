"""How the cost of a sweep grows with layers, strengths and length of prompt. Prints a table, draws a plot.

python benchmarks/bench_growth.py [model]
"""

import sys

from sweeps import Sweep
from timing import RESULTS, Ratio, save, seconds

import steerlens as sl

LAYERS, STRENGTHS, LENGTHS = (1, 3, 6, 12), (1, 3, 7, 20), (16, 64, 128, 256)
PROMPTS, SAMPLED, REPEATS = 2, 2, 3


def cases() -> dict[str, list[dict[str, int]]]:
    """One quantity grows at a time; the others stand in the middle."""
    middle = {"layers": 6, "strengths": 7, "length": 64}
    grown = {"layers": LAYERS, "strengths": STRENGTHS, "length": LENGTHS}
    return {name: [{**middle, name: value} for value in values] for name, values in grown.items()}


def ratio(model: sl.LensModel, tokens: sl.TokenSelector, case: dict[str, int]) -> Ratio:
    """Whole hooked passes over replay, for one size of sweep."""
    strengths = [0.25 * (i + 1) for i in range(case["strengths"])]
    sweep = Sweep.make(
        model, tokens, n_prompts=PROMPTS, length=case["length"], n_layers=case["layers"], strengths=strengths
    )
    every = len(sweep.interventions)
    which = [round((i + 0.5) * every / SAMPLED - 0.5) for i in range(SAMPLED)]
    sweep.by_replay()
    values = []
    for _ in range(REPEATS):
        replayed = seconds(sweep.by_replay)
        values.append(seconds(lambda: sweep.by_hand(which)) * every / SAMPLED / replayed)
    kind = "all" if isinstance(tokens, sl.AllTokens) else "last"
    name = f"{kind}-token, {case['layers']} layers, {case['strengths']} strengths, {case['length']} tokens"
    return Ratio.of(name, values)


def draw(found: dict[tuple[str, str], list[tuple[int, Ratio]]]) -> None:
    """Speed-up against each quantity, one panel each; whiskers are the range of the repeats."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    labels = {"layers": "layers steered", "strengths": "strengths per map", "length": "tokens per prompt"}
    for axis, name in zip(axes, labels, strict=True):
        for kind, colour in (("last", "#1f77b4"), ("all", "#d95f02")):
            points = found[name, kind]
            x = [value for value, _ in points]
            y = [r.median for _, r in points]
            bars = [[r.median - r.low for _, r in points], [r.high - r.median for _, r in points]]
            axis.errorbar(x, y, bars, marker="o", color=colour, capsize=3, label=f"{kind}-token steering")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xticks(x, [str(v) for v in x])
        axis.minorticks_off()
        axis.set_yticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
        axis.axhline(1, color="#888888", linewidth=0.8)
        axis.set_xlabel(labels[name])
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("hooked passes / replay (times)")
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(RESULTS / "growth.png", dpi=150)


def main() -> None:
    model = sl.load_model(sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m-instruct")
    print(f"\n{model!r}: whole hooked passes / replay; three maps, {PROMPTS} prompts")
    done: dict[str, Ratio] = {}
    found: dict[tuple[str, str], list[tuple[int, Ratio]]] = {}
    for name, sizes in cases().items():
        for kind, tokens in (("last", sl.LastToken()), ("all", sl.AllTokens())):
            for case in sizes:
                key = f"{kind} {case}"
                if key not in done:
                    done[key] = ratio(model, tokens, case)
                    print(done[key], flush=True)
                found.setdefault((name, kind), []).append((case[name], done[key]))
    print(save("growth", list(done.values()), model=repr(model)))
    draw(found)


if __name__ == "__main__":
    main()
