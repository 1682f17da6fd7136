"""How the cost of a sweep grows with layers, strengths and length of prompt. Prints a table, draws a plot.

python benchmarks/bench_growth.py [model]
"""

import sys
from collections.abc import Iterator

from sweeps import Sweep
from timing import RESULTS, Ratio, save, seconds

import steerlens as sl

# All-token sweeps cost many times as much, and grow little: fewer sizes, and one prompt.
SIZES = {
    "last": {"layers": (1, 3, 6, 12), "strengths": (1, 3, 7, 20), "length": (16, 64, 128, 256)},
    "all": {"layers": (1, 3, 6), "strengths": (1, 3, 7), "length": (16, 64, 128)},
}
PROMPTS = {"last": 2, "all": 1}
SAMPLED, REPEATS = 2, 3


def cases(kind: str) -> Iterator[tuple[str, dict[str, int]]]:
    """One quantity grows at a time; the others stand in the middle."""
    middle = {"layers": 6, "strengths": 7, "length": 64}
    for name, values in SIZES[kind].items():
        for value in values:
            yield name, {**middle, name: value}


def ratio(model: sl.LensModel, kind: str, case: dict[str, int]) -> Ratio:
    """Whole hooked passes over replay, for one size of sweep."""
    tokens = sl.AllTokens() if kind == "all" else sl.LastToken()
    strengths = [0.25 * (i + 1) for i in range(case["strengths"])]
    sweep = Sweep.make(
        model, tokens, n_prompts=PROMPTS[kind], length=case["length"], n_layers=case["layers"], strengths=strengths
    )
    every = len(sweep.interventions)
    which = [round((i + 0.5) * every / SAMPLED - 0.5) for i in range(SAMPLED)]
    sweep.by_replay()
    values = []
    for _ in range(REPEATS):
        replayed = seconds(sweep.by_replay)
        values.append(seconds(lambda: sweep.by_hand(which)) * every / SAMPLED / replayed)
    name = f"{kind}-token, {case['layers']} blocks, {case['strengths']} strengths, {case['length']} tokens"
    return Ratio.of(name, values)


def draw(found: dict[tuple[str, str], list[tuple[int, Ratio]]]) -> None:
    """Speed-up against each quantity, one panel each; whiskers are the range of the repeats."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    labels = {"layers": "blocks steered", "strengths": "strengths per map", "length": "tokens per prompt"}
    for axis, name in zip(axes, labels, strict=True):
        for kind, colour in (("last", "#1f77b4"), ("all", "#d95f02")):
            points = found[name, kind]
            x = [value for value, _ in points]
            y = [r.median for _, r in points]
            bars = [[r.median - r.low for _, r in points], [r.high - r.median for _, r in points]]
            axis.errorbar(x, y, bars, marker="o", color=colour, capsize=3, label=f"{kind}-token steering")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xticks(SIZES["last"][name], [str(v) for v in SIZES["last"][name]])
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
    print(f"\n{model!r}: whole hooked passes / replay; three maps; prompts: {PROMPTS}")
    done: dict[str, Ratio] = {}
    found: dict[tuple[str, str], list[tuple[int, Ratio]]] = {}
    for kind in SIZES:
        for name, case in cases(kind):
            key = f"{kind} {case}"
            if key not in done:
                done[key] = ratio(model, kind, case)
                print(done[key], flush=True)
            found.setdefault((name, kind), []).append((case[name], done[key]))
    print(save("growth", list(done.values()), model=repr(model)))
    draw(found)


if __name__ == "__main__":
    main()
