"""The artefact theory: steering works because pushing hard in any direction does."""

from dataclasses import dataclass
from typing import final

import pandas as pd

from steerlens.theories._hypothesis import Hypothesis, Outcome, Verdict


@final
@dataclass(frozen=True)
class AnyDirectionWorks(Hypothesis):
    """Random directions of equal norm have much the same effect as the fitted ones at equal side effects.

    Args:
        min_random: Fewer random directions than this make the verdict void.
        max_z: A fitted method further than this many standard deviations above the random ones refutes it.

    References:
        korznikov2025 (random directions raise harmful compliance); the threshold is ours.
    """

    min_random: int = 20
    max_z: float = 5.0

    @property
    def prediction(self) -> str:
        return "Every method's effect at the budget lies within the range of matched-norm random directions."

    @property
    def falsifier(self) -> str:
        return (
            f"A method over {self.max_z:g} standard deviations above at least {self.min_random} random directions, "
            "its interval clear of their range."
        )

    def judge(self, headline: pd.DataFrame) -> Verdict:
        n = int(headline["random_n"].min()) if len(headline) else 0
        if n < self.min_random:
            return Verdict(Outcome.VOID, f"{n} random directions were measured; {self.min_random} are needed.")
        above = headline[(headline["z"] > self.max_z) & (headline["effect_low"] > headline["random_high"])]
        if len(above):
            best = above.sort_values("z", ascending=False).iloc[0]
            return Verdict(
                Outcome.REFUTED,
                f"{best['method']} has an effect of {best['effect']:.2f} [{best['effect_low']:.2f}, "
                f"{best['effect_high']:.2f}] nats, z = {best['z']:.1f}, against [{best['random_low']:.2f}, "
                f"{best['random_high']:.2f}] of {n} random directions.",
            )
        inside = (headline["effect_high"] <= headline["random_high"]) & (
            headline["effect_low"] >= headline["random_low"]
        )
        if inside.all():
            return Verdict(
                Outcome.SUPPORTED,
                f"All {len(headline)} methods lie within the range of {n} random directions.",
            )
        return Verdict(Outcome.INCONCLUSIVE, "Some intervals reach beyond the random directions, none far enough.")
