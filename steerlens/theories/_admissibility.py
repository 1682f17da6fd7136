"""Is a hypothesis right where the answer is known? Studies are simulated, judged, and counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from steerlens.errors import OptionError
from steerlens.numerics import Estimate, wilson
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._verdict import Outcome

SENSITIVITY = 0.8
"""Share of true and of false studies that must be seen for what they are."""

WRONG = 0.05
"""Share of studies that may get a verdict that is wrong: one in twenty, as every interval here says of itself."""


@final
@dataclass(frozen=True)
class Admissibility:
    """How often a hypothesis is right on its planted studies.

    Args:
        hypothesis: Its id.
        outcomes: By case: how many studies had each outcome.
        supported_if_true: Share of true studies that are supported: sensitivity to the theory.
        refuted_if_false: Share of false studies that are refuted: sensitivity to its failure.
        silent_if_null: Share of studies with nothing to see that are inconclusive or void: specificity.
        undecided_if_barely: Share of barely true studies that are inconclusive or void.
    """

    hypothesis: str
    outcomes: Mapping[PlantedCase, Mapping[Outcome, int]]
    supported_if_true: Estimate
    refuted_if_false: Estimate
    silent_if_null: Estimate
    undecided_if_barely: Estimate

    @property
    def problems(self) -> tuple[str, ...]:
        """Why it may not be used; empty if it may. What counts as one lies beyond chance: the whole interval does."""
        said = []
        for name, share in (("true", self.supported_if_true), ("false", self.refuted_if_false)):
            if share.value < SENSITIVITY:
                right = "supported" if name == "true" else "refuted"
                said.append(f"Only {share} of studies where it is {name} are {right}; {SENSITIVITY:g} should be.")
        if self.silent_if_null.high < 1 - WRONG:
            said.append(f"Only {self.silent_if_null} of studies with nothing to see are left undecided.")
        for case, wrong in (
            (PlantedCase.TRUE, Outcome.REFUTED),
            (PlantedCase.FALSE, Outcome.SUPPORTED),
            (PlantedCase.BARELY, Outcome.REFUTED),
        ):
            n = sum(self.outcomes[case].values())
            share = wilson(self.outcomes[case][wrong], n)
            if share.low > WRONG:
                said.append(f"{share} of studies where it is {case.value} are {wrong.value}.")
        if self.undecided_if_barely.value < 0.5:
            said.append(f"Only {self.undecided_if_barely} of barely true studies are left undecided.")
        return tuple(said)

    @property
    def admissible(self) -> bool:
        """Whether it can be right and wrong, and is so where it should be."""
        return not self.problems

    def __str__(self) -> str:
        lines = [
            f"{self.hypothesis}: {'admissible' if self.admissible else 'not admissible'}",
            f"  supported where true     {self.supported_if_true}",
            f"  refuted where false      {self.refuted_if_false}",
            f"  undecided where nothing  {self.silent_if_null}",
            f"  undecided where barely   {self.undecided_if_barely}",
            *(f"  ! {problem}" for problem in self.problems),
        ]
        return "\n".join(lines)


def admissibility(hypothesis: Hypothesis, *, n_studies: int = 200, seed: int) -> Admissibility:
    """Judge simulated studies of every planted case.

    Args:
        hypothesis: To be tried.
        n_studies: Of each case.
        seed: Study i of a case gets a seed of its own, made of this, the case and i.

    Raises:
        OptionError: If there are fewer than ten studies.
    """
    if n_studies < 10:
        raise OptionError(f"Shares need at least ten studies, but got n_studies={n_studies}.")
    outcomes = {}
    for k, case in enumerate(PlantedCase):
        seeds = np.random.SeedSequence([seed, k]).generate_state(n_studies)
        found = [hypothesis.judge(hypothesis.planted(case, seed=int(s))).outcome for s in seeds]
        outcomes[case] = {outcome: found.count(outcome) for outcome in Outcome}

    def share(case: PlantedCase, *which: Outcome) -> Estimate:
        return wilson(sum(outcomes[case][o] for o in which), n_studies)

    silent = (Outcome.INCONCLUSIVE, Outcome.VOID)
    return Admissibility(
        hypothesis.id,
        outcomes,
        supported_if_true=share(PlantedCase.TRUE, Outcome.SUPPORTED),
        refuted_if_false=share(PlantedCase.FALSE, Outcome.REFUTED),
        silent_if_null=share(PlantedCase.NULL, *silent),
        undecided_if_barely=share(PlantedCase.BARELY, *silent),
    )
