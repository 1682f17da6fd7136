"""Do intervals of open-ended suppression cover? Raw ones do; those of anchors, which are extremes, do not.

Truth is the mean of the same number over 3000 sets of the same size.
"""

import numpy as np

from steerlens.evaluation import Likelihoods
from steerlens.evaluation._open_ended import _statistic
from steerlens.numerics import bootstrap

SETS, PER_GROUP = 150, 4
ROWS = (("raw", 1.0), ("raw", 0.25), ("subtract", 1.0), ("subtract", 0.25), ("divide", 0.25))


def drawn(draw: np.random.Generator, n_groups: int) -> tuple[Likelihoods, Likelihoods, list[int]]:
    """Likelihoods whose groups share a part, and what steering makes of them: 0.1 up, 0.2 down, with noise."""
    n = n_groups * PER_GROUP
    shared = np.repeat(draw.normal(size=(n_groups, 2)) * 0.3, PER_GROUP, axis=0)
    positive = -2.6 + shared[:, 0] + draw.normal(size=n) * 0.5
    negative = -3.0 + shared[:, 1] + draw.normal(size=n) * 0.5
    steered = positive + 0.1 + 0.15 * draw.normal(size=n), negative - 0.2 + 0.15 * draw.normal(size=n)
    return Likelihoods(positive, negative), Likelihoods(*steered), [i // PER_GROUP for i in range(n)]


def main() -> None:
    print("| form | share | groups | truth | coverage | mean width |\n|---|---|---|---|---|---|")
    for n_groups in (10, 40):
        ones = np.ones((1, n_groups * PER_GROUP))
        for form, share in ROWS:
            many = np.random.default_rng(10**6)
            sets = (drawn(many, n_groups) for _ in range(3000))
            truth = float(np.mean([_statistic(b, s, form, share, "suppression")(ones)[0] for b, s, _ in sets]))
            found = []
            for i in range(SETS):
                b, s, groups = drawn(np.random.default_rng(i), n_groups)
                found.append(bootstrap(_statistic(b, s, form, share, "suppression"), [groups], seed=0, n_resamples=500))
            covered = np.mean([not e.excludes(truth) for e in found])
            width = np.mean([e.high - e.low for e in found])
            print(f"| {form} | {share:g} | {n_groups} | {truth:.3f} | {covered:.2f} | {width:.3f} |", flush=True)


if __name__ == "__main__":
    main()
