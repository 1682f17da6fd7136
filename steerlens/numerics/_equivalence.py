"""Is there no difference worth having? A large p-value of the usual test does not say so."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import numpy.typing as npt

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics._clusters import cluster_means
from steerlens.numerics._estimate import Estimate

LEVEL = 0.05
"""Level of each of the two one-sided tests."""


@final
@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of a mean against a margin.

    Args:
        estimate: The mean of cluster means with its 90 % interval: its ends are those of the two tests at 0.05.
        margin: What is too small to matter.
        p_value: Of the claim that the mean is within the margin: the larger of the two one-sided p-values.
        verdict: "equivalent" if the interval lies within ±margin, "different" if it lies beyond the margin on one
            side, and "inconclusive" if it holds a margin: more clusters would decide.
    """

    estimate: Estimate
    margin: float
    p_value: float
    verdict: Literal["equivalent", "different", "inconclusive"]


def equivalence(values: npt.ArrayLike, clusters: Sequence[Hashable], *, margin: float) -> Equivalence:
    """Test whether the mean of cluster means is within ±margin.

    Student's t on means of clusters: nothing is drawn at random, and p-value, interval and verdict agree. A mean that
    differs from zero but may be smaller than the margin is "inconclusive" or "equivalent", not "different".

    Args:
        values: Shape (n,), such as the gain of a nonlinear map over an additive one on the same question.
        clusters: The cluster of each value: the concept, for claims about methods.
        margin: What is too small to matter, chosen before looking; a tenth of the additive effect is a custom here.

    Raises:
        OptionError: If the margin is not positive and finite.
        EstimateError: If a value is not finite, there are fewer than five clusters, or their means do not vary.

    References:
        schuirmann1987.
    """
    from statsmodels.stats.weightstats import DescrStatsW

    if not 0 < margin < float("inf"):
        raise OptionError(f"A margin must be positive and finite, but got {margin}.")
    means = cluster_means(values, clusters)
    if np.ptp(means) == 0:
        raise EstimateError(f"All {len(means)} clusters have the mean {means[0]:g}; a test needs means that vary.")
    of = DescrStatsW(means)
    low, high = (float(end) for end in of.tconfint_mean(alpha=2 * LEVEL))
    verdict: Literal["equivalent", "different", "inconclusive"] = "inconclusive"
    if -margin < low and high < margin:
        verdict = "equivalent"
    elif low > margin or high < -margin:
        verdict = "different"
    n = len(np.asarray(values))
    estimate = Estimate(float(means.mean()), low, high, 1 - 2 * LEVEL, n, len(means), "t of cluster means")
    return Equivalence(estimate, margin, float(of.ttost_mean(-margin, margin)[0]), verdict)
