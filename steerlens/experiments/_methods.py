"""Steering methods as data: a name and all hyperparameters, and back."""

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any

from steerlens import maps
from steerlens.errors import OptionError, UnknownNameError
from steerlens.experiments._canonical import canonical
from steerlens.experiments._option_types import of_type, option_types
from steerlens.interventions import OUTPUT_METHODS, OutputMethod, find_method
from steerlens.maps import METHODS, SteeringMethod

Method = SteeringMethod | OutputMethod

NAME = "name"
"""Key under which a nested method, direction estimator or training says what it is."""


def method_options(method: object) -> dict[str, Any]:
    """All hyperparameters of a method, those left at their defaults included, in canonical form.

    Raises:
        OptionError: If one cannot be written as data.
    """
    form: dict[str, Any] = canonical(_as_data(method), type(method).__name__)
    return form


def build_method(name: str, options: Mapping[str, object]) -> Method:
    """The method of this name with these hyperparameters; those left out have their defaults.

    Raises:
        UnknownNameError: If the method, or a hyperparameter, does not exist; names the nearest.
        OptionError: If a value is refused.
    """
    built: Method = _with(_found(name), options, name)
    return built


def seeded_options(name: str, options: Mapping[str, object], *, seed: int) -> dict[str, object]:
    """The options, with this seed where the method has one and none is given."""
    method = _found(name)
    has_seed = dataclasses.is_dataclass(method) and any(f.name == "seed" for f in dataclasses.fields(method))
    return {**({"seed": seed} if has_seed else {}), **options}


@cache
def _found(name: str) -> Method:
    """A method by name, looked up once: a study asks thousands of times, and other packages are many."""
    shipped: tuple[Method, ...] = (*METHODS, *OUTPUT_METHODS)
    ours = {type(m).__name__: m for m in shipped}
    return ours[name] if name in ours else find_method(name)


def _as_data(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _named(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    return {}


def _named(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields: dict[str, object] = {NAME: type(value).__name__}
        for f in dataclasses.fields(value):
            fields[f.name] = _named(getattr(value, f.name))
        return fields
    if isinstance(value, list | tuple):
        return [_named(v) for v in value]
    return value


def _with(thing: Any, options: Mapping[str, object], whose: str) -> Any:
    """A copy of a frozen dataclass with some of its fields changed."""
    fields = {f.name for f in dataclasses.fields(thing) if f.init} if dataclasses.is_dataclass(thing) else set()
    for key in options:
        if key not in fields:
            raise UnknownNameError(f"hyperparameter of {whose}", key, fields, _what_there_is(whose, fields))
    declared = option_types(type(thing))
    changes = {
        key: of_type(_value(value, getattr(thing, key), f"{whose}.{key}"), declared.get(key, Any), f"{whose}.{key}")
        for key, value in options.items()
    }
    try:
        return dataclasses.replace(thing, **changes) if changes else thing
    except (TypeError, ValueError, OverflowError) as error:
        raise OptionError(f"{whose} refuses {dict(options)}: {error}") from None


def _what_there_is(whose: str, fields: set[str]) -> str:
    return "" if fields else f"{whose} has none."


def _value(value: object, default: object, where: str) -> object:
    """A value of data with nested objects built, and lists as tuples."""
    if isinstance(value, Mapping):
        return _nested(value, default, where)
    if isinstance(value, list | tuple):
        return tuple(_value(v, None, where) for v in value)
    if isinstance(value, str) and dataclasses.is_dataclass(default):
        return _nested({NAME: value}, default, where)
    return value


def _nested(value: Mapping[str, object], default: object, where: str) -> object:
    given = value.get(NAME, type(default).__name__)
    start = default if given == type(default).__name__ else _by_name(str(given), where)
    return _with(start, {k: v for k, v in value.items() if k != NAME}, where)


def _by_name(name: str, where: str) -> object:
    """A method, direction estimator or training with its defaults."""
    found = getattr(maps, name, None)
    if isinstance(found, type) and dataclasses.is_dataclass(found):
        try:
            return found()
        except TypeError:
            raise OptionError(f"{where}: {name!r} has no defaults, so it cannot be given by name.") from None
    known = [n for n in maps.__all__ if dataclasses.is_dataclass(getattr(maps, n))]
    raise UnknownNameError(f"value of {where}", name, known)
