"""Whether a hyperparameter is of the kind that its method declares."""

import sys
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from steerlens.errors import OptionError


def option_types(kind: type) -> Mapping[str, Any]:
    """Declared type of each field of a dataclass; none where an annotation cannot be looked up, as in some plugins."""
    try:
        return get_type_hints(kind)
    except (NameError, AttributeError, TypeError, SyntaxError):
        return {}


def of_type(value: object, declared: Any, where: str) -> Any:
    """The value as its field wants it: a whole number is a float too, and 2.0 is the whole number 2.

    Args:
        value: From data.
        declared: Type of the field.
        where: Whose it is, for the message.

    Raises:
        OptionError: If it is of another kind. True and False are no numbers.
    """
    options = get_args(declared) if get_origin(declared) in (Union, types.UnionType) else (declared,)
    for option in options:
        if _fits(value, option):
            if get_origin(option) is tuple:
                return tuple(of_type(v, k, where) for v, k in _matched(value, option))
            return option(value) if option in (int, float) else value
    raise OptionError(f"{where} must be {' or '.join(map(_said, options))}, but got {value!r}.")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind that is no union."""
    if get_origin(kind) is Literal:
        return any(value == one and type(value) is type(one) for one in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and (get_args(kind)[-1] is ... or len(value) == len(get_args(kind)))
    if kind in (int, float):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return abs(value) <= sys.float_info.max if kind is float else isinstance(value, int) or value.is_integer()
    try:
        return isinstance(value, kind)
    except TypeError:  # a kind that cannot be asked, such as Any or Mapping[str, int]; the method may still refuse it
        return True


def _matched(value: Any, kind: Any) -> list[tuple[Any, Any]]:
    """The entries of a tuple, each with its declared type."""
    kinds = get_args(kind)
    return [(v, kinds[0]) for v in value] if kinds[-1] is ... else list(zip(value, kinds, strict=True))


def _said(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if kind is type(None):
        return "left out"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if get_origin(kind) is tuple:
        return f"a list ({', '.join('...' if k is ... else _said(k) for k in get_args(kind))})"
    return names.get(kind) or f"a {getattr(kind, '__name__', kind)}"
