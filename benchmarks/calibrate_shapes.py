"""Do the tests of shape keep their level, and do their intervals cover? Corrected statistics beside published ones.

    python benchmarks/calibrate_shapes.py [--sets 500] [--rows 60 200 1000] [--only PART ...]

Every table row simulates one null, or one law with a known answer, with and without groups of four rows that share half
of their variance. Rows marked "published" show a plug-in statistic failing; they are meant to.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from calibration import Calibration, coverage, false_positives
from scipy import special

from steerlens.numerics import Estimate
from steerlens.probes._circular import circular_probe
from steerlens.probes._curvature import CurvatureReport, curvature_report
from steerlens.probes._differences import DifferenceReport, difference_report
from steerlens.probes._dimension import dimension_report
from steerlens.probes._dip import DipTest, dip_test
from steerlens.probes._displacement import DisplacementReport, displacement_report
from steerlens.probes._groups import group_codes
from steerlens.probes._local import LocalDirectionReport, local_direction_report
from steerlens.probes._overlap import subspace_overlap
from steerlens.probes._reducible import ReducibilityReport, mutual_information, reducibility_report

Array = npt.NDArray[np.float64]
GROUP = 4
SHARED = 0.5
WIDTH = 6
MAP = np.random.default_rng(99).normal(size=(WIDTH, WIDTH)) / WIDTH**0.5
RESULTS = Path(__file__).parent / "results" / "calibrate_shapes.json"


def groups_of(n: int, clustered: bool) -> list[int]:
    return [i // (GROUP if clustered else 1) for i in range(n)]


def normal(rng: np.random.Generator, n: int, width: int, clustered: bool) -> Array:
    """Standard normal rows; those of a group share half of their variance."""
    alone = rng.normal(size=(n, width))
    if not clustered:
        return alone
    codes = group_codes(groups_of(n, True), n)
    shared = rng.normal(size=(int(codes.max()) + 1, width))[codes]
    return np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * alone


def pairs(seed: int, n: int, clustered: bool, shift: float, width: int = WIDTH) -> tuple[torch.Tensor, torch.Tensor]:
    """Two classes of unit variance, ``shift`` apart."""
    rng = np.random.default_rng(seed)
    positive, negative = (normal(rng, n, width, clustered) for _ in range(2))
    positive[:, 0] += shift
    return torch.tensor(positive), torch.tensor(negative)


def sources(seed: int, n: int, clustered: bool, slope: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Sources, and displacements that are a constant, a multiple of a linear function of the source, and noise."""
    rng = np.random.default_rng(seed)
    h = normal(rng, n, WIDTH, clustered) * np.geomspace(2, 0.5, WIDTH)
    return torch.tensor(h), torch.tensor(0.5 + slope * h @ MAP + normal(rng, n, WIDTH, clustered))


def weekdays(
    seed: int, n: int, clustered: bool, period: int, radius: float
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Classes in the order of rows, in templates that hold each class once (or, clustered, twice)."""
    rng = np.random.default_rng(seed)
    n = n // (2 * period) * 2 * period
    j = np.arange(n) % period
    size = 2 * period if clustered else period
    template = np.arange(n) // size
    x = rng.normal(size=(n, WIDTH)) + rng.normal(size=(template.max() + 1, WIDTH))[template]
    x[:, :2] += radius * np.stack([np.cos(2 * np.pi * j / period), np.sin(2 * np.pi * j / period)], axis=1)
    return torch.tensor(x), torch.tensor(j), template.tolist()


def cloud(seed: int, n: int, clustered: bool, kind: str) -> torch.Tensor:
    """A cloud in the plane."""
    rng = np.random.default_rng(seed)
    z = normal(rng, n, 2, clustered)
    if kind == "ring":
        return torch.tensor(z / np.linalg.norm(z, axis=1, keepdims=True) + 0.05 * rng.normal(size=z.shape))
    if kind == "exponential":
        return torch.tensor(np.sign(z) * np.abs(z) ** 1.5 @ np.array([[0.8, -0.6], [0.6, 0.8]]))
    return torch.tensor(z * np.array([2.0, 1.0]))


@cache
def displacements(seed: int, n: int, clustered: bool, slope: float) -> DisplacementReport:
    """One report for its p-values and its intervals."""
    # The level 0.05 is exact with 19 dealings, too: the gain must lie above all of them.
    dealings, groups = 99 if n < 1000 else 19, groups_of(n, clustered)
    return displacement_report(*sources(seed, n, clustered, slope), groups, seed=seed, n_permutations=dealings)


Case = tuple[str, int, bool]


def cases(rows: Sequence[int]) -> Iterator[Case]:
    for n in rows:
        for clustered in (False, True):
            yield f"n = {n}{', clusters' if clustered else ''}", n, clustered


def tests(n: int, clustered: bool) -> dict[str, Callable[[int], float]]:
    """p-values under their nulls."""
    groups = groups_of(n, clustered)

    @cache
    def modes(seed: int, skewed: bool) -> DipTest:
        x = normal(np.random.default_rng(seed), n, 1, clustered)[:, 0]
        return dip_test(np.exp(0.5 * x) if skewed else x, groups, seed=seed, n_samples=199)

    def local(seed: int) -> float:
        h, d = sources(seed, n, clustered, 0.0)
        return local_direction_report(h, d, groups, seed=seed, n_permutations=199).p_value

    def circle(seed: int, period: int) -> float:
        x, j, templates = weekdays(seed, max(n, 10 * period), clustered, period, 0.0)
        return circular_probe(x, j, period, templates, seed=seed, harmonics=(1,)).p_value

    @cache
    def reducible(seed: int, kind: str) -> ReducibilityReport:
        return reducibility_report(cloud(seed, n, clustered, kind), groups, seed=seed, n_permutations=99)

    @cache
    def curvature(seed: int) -> CurvatureReport:
        x = normal(np.random.default_rng(seed), n, 4, clustered) * np.array([2.0, 1.5, 1.0, 0.5])
        return curvature_report(torch.tensor(x), groups, seed=seed, n_samples=39)

    return {
        "dip, normal": lambda s: modes(s, False).p_value,
        "dip, normal, published (uniform null)": lambda s: modes(s, False).p_uniform,
        "dip, log-normal": lambda s: modes(s, True).p_value,
        "local direction": local,
        "displacement, linear gain": lambda s: displacements(s, n, clustered, 0.0).p_linear,
        "displacement, nonlinear gain": lambda s: displacements(s, n, clustered, 0.7).p_nonlinear,
        "circle of 7, all orders": lambda s: circle(s, 7),
        "circle of 12, random orders": lambda s: circle(s, 12),
        "separability, Gaussian": lambda s: reducible(s, "Gaussian").p_separability,
        "mixture, Gaussian": lambda s: reducible(s, "Gaussian").p_mixture,
        "separability, heavy tails": lambda s: reducible(s, "exponential").p_separability,
        "curvature, paths": lambda s: curvature(s).p_distortion,
        "curvature, turning": lambda s: curvature(s).p_turning,
    }


def ring_dimension(n: int) -> float:
    """Of a circle at the largest scale: a little above 1, as chords are shorter than arcs.

    Of n − 1 independent places the k-th nearest is π times a Beta(k, n − k) away along the circle.
    """
    k = 2 ** int(np.log2(n // 4))
    u = (np.arange(100_000) + 0.5) / 100_000
    near, far = (np.log(2 * np.sin(np.pi * special.betaincinv(j, n - j, u) / 2)).mean() for j in (k // 2, k))
    return float((special.digamma(k) - special.digamma(k // 2)) / (far - near))


Measured = tuple[Callable[[int], Estimate], float | None]
"""An estimate for a seed, and the truth; None stands for the mean over sets, what n rows give on average."""


def estimates(n: int, clustered: bool) -> dict[str, Measured]:
    groups, spectrum = groups_of(n, clustered), np.array([2.0, 1.5, 1.0, 0.5])

    @cache
    def of_pairs(seed: int, shift: float) -> DifferenceReport:
        return difference_report(*pairs(seed, n, clustered, shift), groups, seed=seed, n_samples=1)

    @cache
    def local(seed: int) -> LocalDirectionReport:
        return local_direction_report(*sources(seed, n, clustered, 0.3), groups, seed=seed, n_permutations=1)

    def displacement(seed: int) -> DisplacementReport:
        return displacements(seed, n, clustered, 0.7)

    @cache
    def curvature(seed: int) -> CurvatureReport:
        return curvature_report(cloud(seed, n, clustered, "ring"), groups, seed=seed, n_samples=1)

    @cache
    def reducible(seed: int) -> ReducibilityReport:
        return reducibility_report(cloud(seed, n, clustered, "ring"), groups, seed=seed, n_permutations=19)

    def dimension(seed: int) -> Estimate:
        x = normal(np.random.default_rng(seed), n, 4, clustered) * spectrum
        return dimension_report(torch.tensor(x), groups, seed=seed).participation_ratio

    def scale(seed: int) -> Estimate:
        angle = 2 * np.pi * np.random.default_rng(seed).random(n)
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return dimension_report(torch.tensor(ring), range(n), seed=seed).scales[-1].dimension

    def circle(seed: int) -> Estimate:
        x, j, templates = weekdays(seed, max(n, 70), clustered, 7, 1.5)
        return circular_probe(x, j, 7, templates, seed=seed).r_squared

    def field(report: Callable[..., object], name: str, *options: float) -> Measured:
        return (lambda seed: getattr(report(seed, *options), name)), None

    return {
        **{
            f"{name}, shift {shift:g}": field(of_pairs, name, shift)
            for shift in (0.0, 1.0, 3.0)
            for name in ("alignment", "opposed", "d_prime", "auroc", "overlap")
        },
        **{f"local {name}": field(local, name) for name in ("cosine", "resultant", "autocorrelation")},
        **{f"displacement, {name}": field(displacement, name) for name in ("constant", "linear", "unexplained")},
        "participation ratio": (dimension, float((spectrum**2).sum() ** 2 / (spectrum**4).sum())),
        **({} if clustered else {"dimension of a ring, largest scale": (scale, ring_dimension(n))}),
        **{f"curvature of a ring, {name}": field(curvature, name) for name in ("distortion", "turning")},
        "circle of 7, R²": (circle, None),
        **{f"ring, {name}": field(reducible, name) for name in ("separability", "mixture")},
    }


def covered(name: str, estimate: Callable[[int], Estimate], truth: float | None, sets: int) -> Calibration:
    found = [estimate(seed) for seed in range(sets)]
    target = float(np.mean([e.value for e in found])) if truth is None else truth
    return coverage(f"{name} (truth {target:.3g})", lambda seed: found[seed], target, sets=sets)


def published_failures(sets: int) -> Iterator[str]:
    """Plug-in statistics against what they should be."""
    for n in (60, 200, 1000):
        rng = np.random.default_rng(n)
        clouds = [rng.normal(size=(n, 2)) for _ in range(min(sets, 40))]
        plug_in = np.mean([mutual_information(c).min() for c in clouds])
        found = [
            reducibility_report(torch.tensor(c), range(n), seed=i, n_permutations=29).separability.value
            for i, c in enumerate(clouds[:20])
        ]
        yield f"| separability of a Gaussian, bits | n = {n} | {plug_in:.3f} | {np.mean(found):.3f} | 0 |"
    for n, d in ((60, 100), (200, 576)):
        rng = np.random.default_rng(n)
        reports = [dimension_report(torch.tensor(rng.normal(size=(n, d))), range(n), seed=i) for i in range(5)]
        plug_in = np.mean([r.plug_in_participation_ratio for r in reports])
        found = [r.participation_ratio.value for r in reports]
        yield f"| participation ratio of {d} dimensions | n = {n} | {plug_in:.0f} | {np.mean(found):.0f} | {d} |"
    for n, d in ((60, 100), (200, 576)):
        rng = np.random.default_rng(n)
        raw, clean = [], []
        for i in range(20):
            positive, negative = (torch.tensor(rng.normal(size=(n, d))) for _ in range(2))
            raw.append(float((positive - negative).mean(dim=0).square().sum()))
            clean.append(difference_report(positive, negative, range(n), seed=i).d_prime.value)
        name = f"|Δ|² and held-out d′ of noise in {d} dimensions".replace("|", "\\|")
        yield f"| {name} | n = {n} | {np.mean(raw):.2f} | {np.mean(clean):.2f} | 0 |"
    rng = np.random.default_rng(0)
    for noise in (0.0, 0.01, 0.05):
        angle = 2 * np.pi * rng.random(1000)
        ring = np.zeros((1000, 64))
        ring[:, :2] = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        rows = torch.tensor(ring + noise * rng.normal(size=ring.shape))
        raw_report, kept = (dimension_report(rows, range(1000), seed=0, rank=r) for r in (64, 4))
        plateau = "no claim" if kept.plateau is None else f"{kept.plateau.value:.2f}"
        name = f"TwoNN of a ring, noise {noise:g}; plateau in 4 components"
        yield f"| {name} | n = 1000 | {raw_report.two_nn.value:.1f} | {plateau} | 1 |"
    rng = np.random.default_rng(0)
    for n in (60, 200, 1000):
        positive, negative = (torch.tensor(rng.normal(size=(n, WIDTH))) for _ in range(2))
        shared = difference_report(positive, negative, range(n), seed=0)
        yield f"| overlap of equal classes | n = {n} | {shared.binned_overlap:.2f} | {shared.overlap.value:.2f} | 1 |"


def overlap_row(sets: int) -> Calibration:
    rng = np.random.default_rng(0)

    def p_value(seed: int) -> float:
        U, V = (torch.tensor(rng.normal(size=(12, r))) for r in (2, 3))
        return subspace_overlap(U, V, seed=seed, n_samples=199).p_value

    return false_positives("subspace overlap, ranks 2 and 3 in 12", p_value, sets=sets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=500)
    parser.add_argument("--rows", type=int, nargs="+", default=[60, 200, 1000])
    parser.add_argument("--only", nargs="*", default=[], help="run rows whose name holds one of these")
    given = parser.parse_args()
    found: list[Calibration] = []
    print("| what | kind | share | sets | holds |\n|---|---|---|---|---|", flush=True)

    def wanted(name: str) -> bool:
        return not given.only or any(part in name for part in given.only)

    def show(row: Calibration, seconds: float) -> None:
        found.append(row)
        print(f"{row} {seconds:.0f} s", flush=True)

    for label, n, clustered in cases(given.rows):
        for name, p_value in tests(n, clustered).items():
            if wanted(f"{name}, {label}"):
                start = time.perf_counter()
                show(false_positives(f"{name}, {label}", p_value, sets=given.sets), time.perf_counter() - start)
        for name, (estimate, truth) in estimates(n, clustered).items():
            if wanted(f"{name}, {label}"):
                start = time.perf_counter()
                show(covered(f"{name}, {label}", estimate, truth, given.sets), time.perf_counter() - start)
    if wanted("subspace overlap"):
        show(overlap_row(given.sets), 0.0)
    if not given.only:
        print("\n| what | rows | published | corrected | truth |\n|---|---|---|---|---|")
        for line in published_failures(given.sets):
            print(line, flush=True)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
