"""Do intervals of probe scores cover, and do permutation tests reject a true null as often as they say?

python benchmarks/calibrate_probes.py              # a few minutes on one core
python benchmarks/calibrate_probes.py --bca        # beside them the BCa cluster bootstrap of steerlens.numerics

Rows to fit and select are drawn once and held fixed, and so are the probes fitted to them: a logistic one, and networks
from three seeds. Test rows are drawn again and again. The truth is the score of these very probes on 200,000 rows in
clusters of the same kind. What is measured is coverage over test rows, not over rows to fit. Intervals also count how
much seeds differ, so that where they do they cover more often than they say. Over new seeds they would have to hold the
mean of a law that is often two points (a network finds parity, or it does not), which nobody learns from three draws.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from calibration import Calibration, coverage, false_positives

from steerlens.concepts import planted
from steerlens.numerics import Estimate, bootstrap
from steerlens.probes._families import LogisticProbe, MLPProbe, fit_together
from steerlens.probes._intervals import mean_interval
from steerlens.probes._permutation import auroc_p_value
from steerlens.probes._recalibration import bits
from steerlens.probes._rows import LabelledRows
from steerlens.probes._scores import Scores
from steerlens.probes._span import FitData, Problem

SIZES = (60, 200, 1000)
KINDS = ("rows", "pairs", "mixed groups", "pure groups")
PLANTS = ("null", "noisy linear", "linear", "ctx")
SEEDS = (0, 1, 2)
LARGE = 200_000
FRESH = 10**6
"""Seeds from here on are those of rows to fit and of the truth, whatever the first seed of the test rows."""


@dataclass(frozen=True)
class Sampler:
    """Draws rows of a plant in clusters that share an offset.

    Args:
        plant: One of `PLANTS`.
        kind: One of `KINDS`: every row its own cluster; pairs; ten rows of both labels; five rows of one label.
        first_seed: Added to all seeds: sets that took no part in the choice of intervals.
        spread: Standard deviation of the offset of a cluster, where rows are not their own clusters.
    """

    plant: str
    kind: str
    first_seed: int = 0
    spread: float = 0.7

    def draw(self, n: int, seed: int) -> LabelledRows:
        size = {"rows": 1, "pairs": 2, "mixed groups": 10, "pure groups": 5}[self.kind]
        g = torch.Generator().manual_seed(seed + self.first_seed)
        groups = torch.arange(n) // size
        y = groups % 2 if self.kind in ("rows", "pure groups") else torch.arange(n) % 2
        p = planted("ctx" if self.plant == "ctx" else "linear", width=8, seed=0)
        twins = p.sample(n, seed=int(torch.randint(2**31, (), generator=g)))
        target = twins.source if self.plant == "null" else twins.target
        x = torch.where(y[:, None] == 1, target, twins.source)
        if self.plant == "noisy linear":
            x = x + 1.5 * torch.randn(x.shape, generator=g, dtype=torch.float64)
        if self.kind != "rows":
            x = x + self.spread * torch.randn(n // size + 1, 8, generator=g, dtype=torch.float64)[groups]
        return LabelledRows(x, y, tuple(groups.tolist()))


def fitted(sampler: Sampler) -> Callable[[LabelledRows], list[np.ndarray]]:
    """Log-odds of a logistic probe, shape (1, n), and of the networks, shape (seed, n), from rows."""
    fit, select = sampler.draw(300, FRESH), sampler.draw(150, FRESH + 1)
    problems = [Problem(fit.labels(), select.labels(), s) for s in SEEDS]
    found = fit_together((LogisticProbe(), MLPProbe(16)), FitData.of(fit, select), problems)
    span = found[0][0].span

    def log_odds(rows: LabelledRows) -> list[np.ndarray]:
        z = span.coordinates(rows.features())
        logistic, networks = found
        return [logistic[0].log_odds_at(z)[None], np.stack([f.log_odds_at(z) for f in networks])]

    return log_odds


def measured(rows: LabelledRows, log_odds: Sequence[np.ndarray]) -> dict[str, Estimate]:
    y, codes = rows.labels(), np.array(rows.groups)
    found = {}
    for name, at in zip(("logistic", "mlp"), log_odds, strict=True):
        scores = Scores.of(at, y, codes, level=0.95)
        found |= {f"{name} {m}": getattr(scores, m) for m in ("accuracy", "auroc", "nll")}
    gap = bits(log_odds[0], y) - bits(log_odds[1], y)
    return found | {"gap": mean_interval(gap, codes, level=0.95)}


def intervals(sampler: Sampler, sets: int, sizes: Sequence[int] = SIZES) -> list[Calibration]:
    """Coverage of accuracy, AUROC and NLL of both probes, and of the gap between them."""
    log_odds_of = fitted(sampler)
    large = sampler.draw(LARGE, FRESH + 2)
    truth = {k: e.value for k, e in measured(large, log_odds_of(large)).items()}
    out = []
    for n in sizes:
        found = []
        for seed in range(sets):
            rows = sampler.draw(n, seed)
            found.append(measured(rows, log_odds_of(rows)))
        for metric, true in truth.items():
            scene = f"{sampler.plant}, {sampler.kind}, n = {n} ({found[0][metric].n_clusters} clusters)"
            label = f"{scene}: {metric} ({true:.3f})"
            out.append(coverage(label, lambda s, m=metric, f=found: f[s][m], true, sets=sets))
    return out


def bca(sampler: Sampler, sets: int) -> list[Calibration]:
    """What the BCa cluster bootstrap covers with the fewest rows."""
    n = SIZES[0]
    log_odds_of = fitted(sampler)

    def values(rows: LabelledRows) -> dict[str, np.ndarray]:
        y = rows.labels()
        at, other = log_odds_of(rows)
        return {
            "accuracy": ((at > 0) == y).mean(axis=0),
            "nll": bits(at, y).mean(axis=0),
            "gap": (bits(at, y) - bits(other, y)).mean(axis=0),
        }

    truth, out = values(sampler.draw(LARGE, FRESH + 2)), []
    for metric, true in truth.items():

        def estimate(seed: int, metric: str = metric) -> Estimate:
            rows = sampler.draw(n, seed)
            x = values(rows)[metric]
            return bootstrap(lambda w: (w @ x) / w.sum(axis=-1), [rows.groups], seed=seed, n_resamples=999)

        out.append(
            coverage(
                f"BCa: {sampler.plant}, {sampler.kind}, n = {n}: {metric}", estimate, float(true.mean()), sets=sets
            )
        )
    return out


def p_values(sampler: Sampler, n: int, sets: int) -> Calibration:
    """False positives of the permutation test where labels say nothing; a new probe for every set."""

    def p(seed: int) -> float:
        fit, select, test = (sampler.draw(n, 3 * seed + k) for k in range(3))
        at = LogisticProbe().fit(fit, select, seed=0).log_odds(test.x)[None]
        return auroc_p_value(at, test.labels(), np.array(test.groups), seed=seed, count=199)

    return false_positives(f"permuted labels, {sampler.kind}, n = {n}", p, sets=sets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--bca", action="store_true")
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| what | kind | share | sets | calibrated |\n|---|---|---|---|---|")
    failed = []
    for kind in KINDS:
        first = options.first_seed
        found = [p_values(Sampler("null", kind, first), n, options.sets) for n in SIZES]
        for plant in PLANTS:
            sampler = Sampler(plant, kind, first)
            found += intervals(sampler, options.sets)
            if options.bca:
                found += bca(sampler, min(options.sets, 500))
        print(*found, sep="\n", flush=True)
        failed += [c for c in found if not c.holds]
    print(f"\n{len(failed)} not calibrated" + "".join(f"\n{c}" for c in failed))


if __name__ == "__main__":
    main()
