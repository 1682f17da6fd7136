"""Studies of theories in several models, read as one."""

from collections import Counter

import pandas as pd

from steerlens.errors import OptionError
from steerlens.theories._theory_run import TheoryEvidence

LIKE = ("strengths", "budget", "n_random", "neutral", "max_pairs", "seed")
"""Conditions that studies must share to be read as one; layers belong to a model."""


def across_models(*evidence: TheoryEvidence) -> pd.DataFrame:
    """Records of several models, one below the other, for claims in which models are crossed with concepts.

    Args:
        evidence: Of one study each, of different models; see `load_evidence`.

    Returns:
        As `TheoryEvidence.records`; `records_for` takes the part that a hypothesis reads.

    Raises:
        OptionError: If there are not two, a model is there twice, slopes and effects were measured differently, or a
            concept of one name was measured on other pairs.
    """
    models = [e.model for e in evidence]
    twice = [m for m, n in Counter(models).items() if n > 1]
    if len(models) < 2 or twice:
        raise OptionError(f"Expected evidence of two models or more, each once, but got {models}.")
    _check_same_pairs(evidence)
    first, *others = (e.facts for e in evidence)
    for name, facts in zip(models[1:], others, strict=True):
        apart = [key for key in LIKE if facts.get(key) != first.get(key)]
        if apart:
            raise OptionError(
                f"{name!r} was measured with other {', '.join(apart)} than {models[0]!r}, so that their effects differ "
                "for other reasons than the model. Measure them alike."
            )
    return pd.concat([e.records for e in evidence], ignore_index=True)


def _check_same_pairs(evidence: tuple[TheoryEvidence, ...]) -> None:
    """The same concept in two models must be the same pairs, in the same halves."""
    seen: dict[str, tuple[str, dict[str, object]]] = {}
    for study in evidence:
        for concept, comparison in study.comparisons.items():
            about = comparison.provenance.concept
            pairs = {key: value for key, value in about.items() if key.endswith("_fingerprint")}
            model, known = seen.setdefault(concept, (study.model, pairs))
            if pairs != known:
                raise OptionError(
                    f"Concept {concept!r} holds other pairs in the study of {study.model!r} than in that of {model!r}, "
                    "so that the two differ for other reasons than the model. Measure both on the same data."
                )
