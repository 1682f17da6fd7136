"""Trials as data: what determines a result, the result, and an append-only log of them."""

from steerlens.experiments._store import ResultStore
from steerlens.experiments._trial import TrialRecord, TrialSpec

__all__ = ["ResultStore", "TrialRecord", "TrialSpec"]
