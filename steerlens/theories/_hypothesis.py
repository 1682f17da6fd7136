"""A prediction with its falsifier, and what records say of it."""

import abc
from dataclasses import dataclass
from enum import Enum
from typing import final

import pandas as pd


@final
class Outcome(Enum):
    """What can become of a hypothesis. VOID: a control failed, so nothing can be said."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"
    VOID = "void"


@final
@dataclass(frozen=True)
class Verdict:
    """The outcome for one hypothesis, and the numbers it rests on."""

    outcome: Outcome
    reason: str


class Hypothesis(abc.ABC):
    """A theory's prediction about stored records. Say the prediction and its falsifier before looking at any."""

    @property
    @abc.abstractmethod
    def prediction(self) -> str:
        """What the theory says the records will show."""

    @property
    @abc.abstractmethod
    def falsifier(self) -> str:
        """What would count against it."""

    @abc.abstractmethod
    def judge(self, headline: pd.DataFrame) -> Verdict:
        """Judge from the headline table of a comparison (`steerlens.evaluation.Comparison.headline`)."""
