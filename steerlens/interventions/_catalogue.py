"""All steering methods by name: fitted on activations, trained through the model, or of other packages."""

from steerlens.errors import UnknownNameError
from steerlens.interventions._output_training import OutputMethod
from steerlens.interventions._preference import OutputMLP, PreferenceShift
from steerlens.interventions._reft import LowRankFinetune
from steerlens.maps import (
    METHODS,
    MethodSummary,
    SteeringMethod,
    method_by_name,
    method_names,
    method_summaries,
    summarise,
)
from steerlens.maps._plugins import plugins

OUTPUT_METHODS: tuple[OutputMethod, ...] = (PreferenceShift(), LowRankFinetune(), OutputMLP())
"""Every method that is trained through the model, with its default hyperparameters."""


def find_method(name: str) -> SteeringMethod | OutputMethod:
    """A method with its default hyperparameters; see `steerlens.maps.method_by_name` for names of other packages.

    Raises:
        UnknownNameError: If there is no method of this name.
        OptionError: If it belongs to another package and cannot be loaded.
    """
    trained = {type(m).__name__: m for m in OUTPUT_METHODS}
    if name in trained:
        return trained[name]
    announced, shipped = plugins(), {type(m).__name__ for m in METHODS}
    if name not in method_names():
        raise UnknownNameError("steering method", name, [*method_names(), *trained], "See `steerlens maps`.")
    # A name of ours is ours, whatever other packages announce.
    theirs = announced[name].load() if name in announced and name not in shipped else None
    return theirs if isinstance(theirs, OutputMethod) else method_by_name(name)


def all_summaries() -> tuple[MethodSummary, ...]:
    """Every method there is, in words; those trained through the model come last."""
    trained = tuple(summarise(m) for m in OUTPUT_METHODS)
    names = {m.name for m in trained}
    return tuple(m for m in method_summaries() if m.name not in names) + trained
