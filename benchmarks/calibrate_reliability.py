"""Do the numbers of reliability say what they claim, on propensities whose truth is known?

python benchmarks/calibrate_reliability.py         # about twenty minutes on one core
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
from calibration import coverage, false_positives

from steerlens.evaluation import propensity_report, variance_decomposition
from steerlens.evaluation._anti_steering import question_intervals
from steerlens.evaluation._reliability import steerability
from steerlens.evaluation._spurious import VarianceDecomposition
from steerlens.numerics import Estimate, equivalence, sign_flip, spearman, two_stage_mean

Array = npt.NDArray[np.float64]

SETS = 500
FEWER = 120
"""Sets of what takes a second each."""
GRID = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
HEAD = "\n| what | kind | share | sets | calibrated |\n|---|---|---|---|---|"


def law(name: str, z: Array) -> Array:
    """Mean zero; "skewed" is log-normal."""
    return z if name == "normal" else np.exp(0.7 * z) - np.exp(0.7**2 / 2)


def concepts(name: str, k: int, between: float, seed: int) -> tuple[Array, list[int], list[int]]:
    """Ten values of mean zero in five groups of each of k concepts."""
    rng = np.random.default_rng((seed, k))
    x = between * law(name, rng.normal(size=(k, 1, 1))) + 0.5 * law(name, rng.normal(size=(k, 5, 1)))
    x = x + rng.normal(size=(k, 5, 2))
    return x.ravel(), np.repeat(np.arange(k), 10).tolist(), np.tile(np.repeat(np.arange(5), 2), k).tolist()


def means() -> None:
    print(HEAD)
    for name in ("normal", "skewed"):
        for between in (0.2, 1.0):
            for k in (8, 12, 20, 40):
                scene = f"{name}, {k} concepts, between them {between:g}"

                def interval(seed: int, name: str = name, k: int = k, between: float = between) -> Estimate:
                    return two_stage_mean(*concepts(name, k, between, seed), seed=0, n_resamples=1000)

                print(coverage(f"two-stage mean, {scene}", interval, 0.0, sets=SETS), flush=True)

                def p_value(seed: int, name: str = name, k: int = k, between: float = between) -> float:
                    x, clusters, _ = concepts(name, k, between, seed)
                    return sign_flip(x, clusters, seed=0, n_flips=2000).p_value

                print(false_positives(f"sign flip, {scene}", p_value, sets=SETS), flush=True)

                def at_margin(seed: int, name: str = name, k: int = k, between: float = between) -> float:
                    x, clusters, _ = concepts(name, k, between, seed)
                    return equivalence(x + 2.0, clusters, margin=2.0).p_value

                print(false_positives(f"equivalence at the margin, {scene}", at_margin, sets=SETS), flush=True)


def correlations() -> None:
    print(HEAD)
    for n in (12, 36):
        for pearson in (0.0, 0.5, 0.8):
            truth = 6 / np.pi * np.arcsin(pearson / 2)

            def interval(seed: int, n: int = n, pearson: float = pearson) -> Estimate:
                x, e = np.random.default_rng((seed, n)).normal(size=(2, n))
                return spearman(x, pearson * x + np.sqrt(1 - pearson**2) * e).rho

            print(coverage(f"Spearman {truth:.2f}, n = {n}", interval, truth, sets=2 * SETS), flush=True)


CASES = ((20, 39, np.inf, False), (20, 39, np.inf, True), (100, 39, np.inf, True), (100, 199, np.inf, True),
         (100, 99, 1.0, True))  # fmt: skip
"""Pairs, resampled maps, where propensities level off, and whether intervals know how few the pairs are."""


def slopes_of_maps(true: Array, noise: float, n_pairs: int, n_maps: int, seed: int) -> tuple[Array, Array]:
    """Slopes of the map fitted to all pairs, and of maps fitted to bootstrap resamples of them.

    The map is the mean of the pairs' differences, 1 along the first axis and normal noise along all. A question's slope
    is its own gradient times the map: its true slope along the first axis, and ``noise`` along the others.
    """
    rng = np.random.default_rng(seed)
    d = 12
    gradient = np.concatenate([true[:, None], noise * rng.normal(size=(len(true), d)) / np.sqrt(d)], axis=1)
    pairs = np.eye(1, d + 1) + np.sqrt(n_pairs) * rng.normal(size=(n_pairs, d + 1)) / np.array([10] + [1] * d)
    weights = rng.multinomial(n_pairs, np.full(n_pairs, 1 / n_pairs), size=n_maps) / n_pairs
    return pairs.mean(axis=0) @ gradient.T, weights @ pairs @ gradient.T


def respond(slopes: Array, saturation: float) -> Array:
    """Slopes on the grid of propensities g · tanh(slope · strength / g), which level off at ±g."""
    if saturation == np.inf:
        return slopes
    at = np.multiply.outer(np.array(GRID), slopes)
    return steerability((saturation * np.tanh(at / saturation)).reshape(len(GRID), -1), GRID).reshape(slopes.shape)


def anti_steering() -> None:
    print("\n| true slopes | pairs | widened | maps | levels off at | anti-steered | naive | shown | false | found |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    laws = {
        "all 0": np.zeros(100),
        "all 0.5": np.full(100, 0.5),
        "20 % at -2, 80 % at 2": np.repeat([-2.0, 2.0], [20, 80]),
        "20 % at -4, 80 % at 0.5": np.repeat([-4.0, 0.5], [20, 80]),
    }
    for name, true in laws.items():
        for n_pairs, n_maps, level, widened in CASES:
            naive, shown, false, found = [], [], [], []
            for seed in range(SETS):
                slopes, refitted = (respond(s, level) for s in slopes_of_maps(true, 1.0, n_pairs, n_maps, seed))
                counted = question_intervals(slopes, refitted, n_pairs if widened else None)[1] < 0
                naive.append((slopes <= 0).mean())
                shown.append(counted.mean())
                false.append(counted[true >= 0].mean())
                found.append(counted[true < 0].mean() if (true < 0).any() else np.nan)
            cells = [f"{np.mean(x):.3f}" if np.isfinite(x).all() else "–" for x in (naive, shown, false, found)]
            top = "never" if level == np.inf else f"{level:g}"
            row = (name, n_pairs, "yes" if widened else "no", n_maps, top, f"{(true < 0).mean():g}", *cells)
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


def spurious(share: float, n: int, by_group: bool, seed: int) -> VarianceDecomposition:
    """Slopes of which the letter explains a share; answers are in groups of three that share a little."""
    rng = np.random.default_rng((seed, n))
    groups = np.arange(n) // 3
    letters = rng.integers(0, 2, n)[groups] if by_group else rng.integers(0, 2, n)
    rest = np.sqrt(0.3) * rng.normal(size=n)[groups] + np.sqrt(0.7) * rng.normal(size=n)
    y = np.sqrt(1 - share) * rest + np.sqrt(share) * (2 * letters - 1)
    factors = {"letter": letters.tolist(), "length": rng.integers(0, 4, n).tolist()}
    return variance_decomposition(y, factors, groups.tolist(), seed=0)


def decompositions() -> None:
    print(HEAD)
    for by_group in (False, True):
        for n in (60, 240):
            for share in (0.0, 0.3):
                of = cache(lambda seed, share=share, n=n, by_group=by_group: spurious(share, n, by_group, seed))
                scene = f"letter of {'a group' if by_group else 'a question'}, share {share:g}, n = {n}"
                print(coverage(f"marginal, {scene}", lambda s, of=of: of(s).factors[0].marginal, share, sets=FEWER))
                print(coverage(f"total, {scene}", lambda s, of=of: of(s).total, share, sets=FEWER))
                tests: dict[str, Callable[[int], float]] = {"length": lambda s, of=of: of(s).factors[1].p_value}
                if share == 0:
                    tests["letter"] = lambda s, of=of: of(s).factors[0].p_value
                for factor, p_value in tests.items():
                    print(false_positives(f"{factor}, {scene}", p_value, sets=FEWER), flush=True)
                letter = [of(s).factors[0] for s in range(FEWER)]
                published, corrected = (
                    np.mean([f.published for f in letter]),
                    np.mean([f.marginal.value for f in letter]),
                )
                print(f"| {scene}: mean published {published:.3f}, corrected {corrected:.3f} | | | | |", flush=True)


def curves() -> None:
    """Shapes with a known answer, without noise."""
    print("\n| propensity | slope | slope at 0 | monotonicity | curvature | line misses | best strength |")
    print("|---|---|---|---|---|---|---|")
    s = np.array(GRID)
    shapes = {"2 s": 2 * s, "s²": s**2, "−s²": -(s**2)}
    shapes |= {f"4 tanh({g:g} s)": 4 * np.tanh(g * s) for g in (0.5, 1, 2, 4)}
    for name, m in shapes.items():
        jitter = 1e-3 * np.random.default_rng(0).normal(size=6)
        found = propensity_report(np.outer(m, 1 + jitter), GRID, range(6), seed=0)
        q = found.questions
        row = (q.slope, q.local_slope, q.monotonicity, q.curvature, q.residual_rms, q.best_strength)
        print(f"| {name} | " + " | ".join(f"{np.median(x):.2f}" for x in row) + " |", flush=True)


def main() -> None:
    curves()
    anti_steering()
    correlations()
    means()
    decompositions()


if __name__ == "__main__":
    main()
