"""Do intervals of open-ended promotion and suppression cover? Those of what depends on anchors are given the anchors.

Truth is what new items of the same population give, measured against the anchors of the set that was drawn; the means
over new items are over 4000 sets of the same size.
"""

import numpy as np

from steerlens.evaluation import Likelihoods
from steerlens.evaluation._open_ended import Form, Quantity, _hardest, _statistic
from steerlens.numerics import bootstrap

SETS, PER_GROUP = 500, 4
QUANTITIES: tuple[Quantity, ...] = ("promotion", "suppression")
ROWS: tuple[tuple[Form, float], ...] = (
    ("raw", 1.0), ("raw", 0.25), ("subtract", 1.0), ("subtract", 0.25), ("divide", 1.0), ("divide", 0.25),
)  # fmt: skip


def drawn(draw: np.random.Generator, n_groups: int) -> tuple[Likelihoods, Likelihoods, list[int]]:
    """Likelihoods whose groups share a part, and what steering makes of them: 0.1 up, 0.2 down, with noise."""
    n = n_groups * PER_GROUP
    shared = np.repeat(draw.normal(size=(n_groups, 2)) * 0.3, PER_GROUP, axis=0)
    positive = -2.6 + shared[:, 0] + draw.normal(size=n) * 0.5
    negative = -3.0 + shared[:, 1] + draw.normal(size=n) * 0.5
    steered = positive + 0.1 + 0.15 * draw.normal(size=n), negative - 0.2 + 0.15 * draw.normal(size=n)
    return Likelihoods(positive, negative), Likelihoods(*steered), [i // PER_GROUP for i in range(n)]


def means(base: Likelihoods, steered: Likelihoods, share: float, quantity: Quantity) -> tuple[float, float]:
    """Mean likelihood of the hardest references, unsteered and steered."""
    all_of_them = np.ones((1, len(base.positive)))
    was, now = (x.positive if quantity == "promotion" else x.negative for x in (base, steered))
    ease = was if quantity == "promotion" else -was
    return float(_hardest(was, ease, all_of_them, share)[0]), float(_hardest(now, ease, all_of_them, share)[0])


def truth(form: Form, quantity: Quantity, mean: tuple[float, float], was: float, now: float) -> float:
    """What mean likelihoods come to against these anchors."""
    base, steered = mean
    rise = {
        "raw": steered - base,
        "subtract": (steered - now) - (base - was),
        "divide": steered / abs(now) - base / abs(was),
    }[form]
    return rise if quantity == "promotion" else -rise


def main() -> None:
    print("| form | share | groups | promotion covers | suppression covers |\n|---|---|---|---|---|")
    for n_groups in (10, 40):
        many = np.random.default_rng(10**6)
        others = [drawn(many, n_groups) for _ in range(4000)]
        sets = [drawn(np.random.default_rng(i), n_groups) for i in range(SETS)]
        for form, share in ROWS:
            shown = []
            for quantity in QUANTITIES:
                mean = np.mean([means(b, s, share, quantity) for b, s, _ in others], axis=0)
                found = (
                    bootstrap(_statistic(b, s, form, share, quantity), [g], seed=0, n_resamples=500) for b, s, g in sets
                )
                wanted = (truth(form, quantity, (mean[0], mean[1]), b.anchor, s.anchor) for b, s, _ in sets)
                shown.append(float(np.mean([e.low <= t <= e.high for e, t in zip(found, wanted, strict=True)])))
            print(f"| {form} | {share:g} | {n_groups} | {shown[0]:.3f} | {shown[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
