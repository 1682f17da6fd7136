"""Every error that steerlens raises on purpose.

    SteerlensError
    ├── UnknownNameError (LookupError)   a model, concept, map or option that does not exist; names its neighbours
    ├── ModelError                       a model cannot be loaded, or cannot do what was asked
    ├── ConceptError                     a data set or its file is malformed; names file and line
    ├── SiteError                        a hook point or token selector does not fit the model
    ├── ActivationError                  activations are NaN, infinite, or too large to hold
    ├── FitError                         a map cannot be fitted to, or applied to, these activations
    ├── ArtefactError                    a saved map, cache entry or result cannot be read safely
    ├── EstimateError                    too little data for an honest interval
    └── OptionError (ValueError)         an argument outside its range

A message says what was expected, what was given, whose it is, and what to do now.
"""

import difflib
from collections.abc import Iterable
from typing import final


class SteerlensError(Exception):
    """Base of all errors raised on purpose by steerlens."""


@final
class UnknownNameError(SteerlensError, LookupError):
    """A name that is not in a list of known names.

    Args:
        kind: What the name should have been, such as ``"concept"``.
        name: The name given.
        known: The names that exist; the nearest three are suggested.
        hint: What to do when none of them is meant.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        text = f"{name!r} is not a known {kind}."
        if near:
            text += " Closest: " + ", ".join(repr(n) for n in near) + "."
        elif names and len(names) <= 40:
            text += " Known: " + ", ".join(names) + "."
        super().__init__(f"{text} {hint}".strip())
        self.name = name
        self.near = tuple(near)


@final
class ModelError(SteerlensError):
    """A model cannot be loaded, or cannot do what was asked of it."""


@final
class ConceptError(SteerlensError):
    """A concept data set, or the file it comes from, is malformed."""


@final
class SiteError(SteerlensError):
    """A site (hook point and token selector) does not fit the model or the text."""


@final
class ActivationError(SteerlensError):
    """Activations are not finite, or do not fit where they should go."""


@final
class FitError(SteerlensError):
    """A map cannot be fitted to these activations, or applied to them."""


@final
class ArtefactError(SteerlensError):
    """A file written by steerlens cannot be read back safely."""


@final
class EstimateError(SteerlensError):
    """There is too little data for the estimate that was asked for."""


@final
class OptionError(SteerlensError, ValueError):
    """An argument is outside the range it may take."""
