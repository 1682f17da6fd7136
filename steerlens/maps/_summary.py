"""What can be said of a method without fitting it: what it needs, when it is right, where it comes from."""

import inspect
from dataclasses import dataclass, replace
from typing import final

from steerlens.errors import OptionError
from steerlens.maps._base import method_family, method_name, method_needs, method_reversible, method_source
from steerlens.maps._catalogue import METHODS
from steerlens.maps._plugins import plugins


@final
@dataclass(frozen=True)
class MethodSummary:
    """A steering method in words.

    Args:
        name: By which `method_by_name` and ``steerlens compare --maps`` know it.
        family: See `Family`.
        needs: "samples", "pairs" (rows of source and target belong together), or "model" (fitted through the model).
        reverse: Whether its maps have negative strengths; "?" if it does not say.
        assumes: When it is right.
        source: References, as its docstring gives them.
        what: First line of its docstring, or why it cannot be loaded.
        package: Who ships it.
    """

    name: str
    family: str
    needs: str
    reverse: str
    assumes: str
    source: str
    what: str
    package: str = "steerlens"


def summarise(method: object, *, package: str = "steerlens") -> MethodSummary:
    """What a method says of itself."""
    return MethodSummary(
        name=method_name(method),
        family=method_family(method),
        needs=method_needs(method),
        reverse={True: "yes", False: "no", None: "?"}[method_reversible(method)],
        assumes=str(getattr(method, "assumes", "")),
        source=method_source(method),
        what=(inspect.getdoc(type(method)) or "").partition("\n")[0],
        package=package,
    )


def method_summaries() -> tuple[MethodSummary, ...]:
    """Every method that is fitted on samples or pairs, ours first; a broken one of another package says so."""
    ours = tuple(summarise(m) for m in METHODS)
    known = {m.name for m in ours}
    theirs: list[MethodSummary] = []
    for name, plugin in sorted(plugins().items()):
        if name in known:
            continue
        try:
            theirs.append(replace(summarise(plugin.load(), package=plugin.package), name=name))
        except OptionError as error:
            theirs.append(MethodSummary(name, "custom", "?", "?", "", "", str(error), plugin.package))
    return ours + tuple(theirs)
