"""What the numbers of one layer say in words: which rung of the ladder its geometry asks for, and how sure that is."""

import math
from dataclasses import dataclass
from typing import Literal, final

from steerlens.activations import Site
from steerlens.evaluation._rings import Ring
from steerlens.numerics import Estimate
from steerlens.probes import DirectionReport, DisplacementReport, ErasureReport, NonlinearityGap, ProbeTable

Rung = Literal["none", "translation", "affine", "nonlinear", "pairs"]
"""What is enough by what was seen: nothing to find, a mean shift, maps fitted on covariances, maps fitted on whole
distributions, or maps fitted on pairs."""

LEVEL = 0.01
"""p-value below which something counts as seen; layers are many."""

WORTH = 0.02
"""Bits a row that a larger class must save, by the lower end of its interval, before another rung is asked for."""


INDEPENDENT = 0.5
"""Share of E|d|² that a linear function of the source predicts where target and source vary independently about one
mean: regression to the mean, d ≈ −(x − μ). Only what is predicted beyond it says that a row has a target of its own."""


@final
@dataclass(frozen=True)
class LayerReading:
    """The summary of one site.

    Args:
        site: Hook name.
        layer: Block.
        rung: What the geometry asks for.
        sure: "shown" if the interval or p-value behind it excludes the next lower rung, and the next higher one adds
            nothing worth it either way; "not excluded" where the higher rungs stay possible for want of data.
        text: In words, with the numbers.
    """

    site: str
    layer: int
    rung: Rung
    sure: Literal["shown", "not excluded"]
    text: str

    def __str__(self) -> str:
        return f"{self.site}: {self.rung} ({self.sure}). {self.text}"


def read_layer(
    site: Site,
    table: ProbeTable,
    gap: NonlinearityGap,
    erasure: ErasureReport,
    direction: DirectionReport | None,
    displacement: DisplacementReport | None,
    ring: Ring | None,
) -> LayerReading:
    """Put one site into words.

    The rung is the lowest that what was seen does not rule out. A linear probe beyond chance asks for a translation.
    Bits saved by quadratic functions ask for covariances, bits saved beyond them for whole distributions. Where
    nothing tells the classes apart and more of the displacement can be predicted from the source than regression to
    the mean explains, only pairs know what to do.
    """
    linear = table.best(("linear",))
    best = min(table.results, key=lambda r: r.select_nll)
    few = table.least_p > LEVEL
    seen = min(linear.p_value, best.p_value) <= LEVEL
    depends = displacement is not None and min(displacement.p_linear, displacement.p_nonlinear) <= LEVEL
    # Of too few groups nobody knows whether a probe tells the classes apart, and so not that only pairs do.
    moves = not few and depends and displacement is not None and _predicted(displacement) > INDEPENDENT
    parts = [f"AUROC {_said(linear.scores.auroc)} for {linear.name}"]
    if best.name != linear.name:
        parts.append(f"{_said(best.scores.auroc)} for {best.name}, the best on select rows")
    rung, sure = _rung(seen, moves, gap)
    if few:
        parts.append(_too_few(table))
    elif rung == "none":
        parts.append("no probe tells the classes apart beyond permuted labels")
    if rung == "pairs":
        parts.append("no probe tells the classes apart, and yet a source decides where its target is")
    if seen:
        parts.append(f"nonlinear functions save {_said(gap.total)} bits a row")
        if rung != "translation":
            parts.append(f"of which quadratic ones {_said(gap.quadratic)}")
        if erasure.reading != "nothing nonlinear":
            parts.append(f"erasing the linear part: {erasure.reading}")
    if depends and displacement is not None:
        shares = f"{_said(displacement.constant)} constant, {_said(displacement.linear)} linear in the source"
        parts.append(f"displacements are {shares}, {_said(displacement.nonlinear)} nonlinear")
        if not seen and not moves and not few:
            parts.append("which is no more than regression to the mean")
    if direction is not None and direction.opposed.low > 0.25 and seen:
        parts.append(f"{_said(direction.opposed)} of the pairs point against the mean difference")
    parts += _ring_parts(ring)
    return LayerReading(site.hook_name, site.layer, rung, sure, "; ".join(parts) + ".")


def _too_few(table: ProbeTable) -> str:
    n = int(table.codes.max()) + 1
    return (
        f"{n} groups are left to the test, too few to show anything: with them p cannot be below {table.least_p:.2g}, "
        f"and {LEVEL:g} is asked for (pairs of 28 groups and more leave enough)"
    )


def _ring_parts(ring: Ring | None) -> list[str]:
    """Order in the principal plane, for which no probe was asked, and whether the angle is read better in it."""
    if ring is None:
        return []
    n, parts = len(ring.names), []
    if ring.fit.principal.in_order:
        chance = 2 / math.factorial(n - 1)
        parts.append(f"the {n} items follow each other round a ring in their principal plane (by chance {chance:.2g})")
    if ring.fit.p_value <= LEVEL:
        orders = f"{'all' if ring.fit.exact else 'random'} {ring.fit.n_orders} orders"
        parts.append(
            f"their angle is read better in this order than in others (p = {ring.fit.p_value:.2g}, {orders}), as on a "
            "circle or along an arc"
        )
    return parts


def _rung(seen: bool, moves: bool, gap: NonlinearityGap) -> tuple[Rung, Literal["shown", "not excluded"]]:
    if not seen:
        return ("pairs", "shown") if moves else ("none", "not excluded")
    # A quadratic probe that overfits leaves the others much to save, and no more than a linear one did.
    if min(gap.high.low, gap.total.low) > WORTH:
        return "nonlinear", "shown"
    if gap.quadratic.low > WORTH:
        return "affine", "shown" if _nothing_more(gap.high) else "not excluded"
    if gap.total.low > WORTH:
        return "nonlinear", "not excluded"
    return "translation", "shown" if _nothing_more(gap.total) else "not excluded"


def _nothing_more(gap: Estimate) -> bool:
    """Equivalence, either way: a larger class that fits worse for want of rows says nothing about what is there."""
    return gap.low >= -WORTH and gap.high <= WORTH


def _predicted(displacement: DisplacementReport) -> float:
    """Lower end of the share that the source predicts beyond the mean."""
    return 1 - displacement.unexplained.high - max(displacement.constant.value, 0.0)


def _said(e: Estimate) -> str:
    return f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]"
