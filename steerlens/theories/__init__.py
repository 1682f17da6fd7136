"""Theories of steering as hypotheses that stored records can refute."""

from steerlens.theories._any_direction import AnyDirectionWorks
from steerlens.theories._hypothesis import Hypothesis, Outcome, Verdict

__all__ = ["AnyDirectionWorks", "Hypothesis", "Outcome", "Verdict"]
