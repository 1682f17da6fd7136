"""Token selectors as text, and back."""

import dataclasses
import inspect
import re
from collections.abc import Sequence

from steerlens.activations import TokenSelector
from steerlens.activations._selectors import TOKEN_SELECTORS
from steerlens.errors import OptionError, UnknownNameError

_CALL = re.compile(r"(\w+)\s*(?:\((.*)\))?")


def selector(text: str) -> TokenSelector:
    """The selector that this text means, such as ``"LastToken"`` or ``"SpanTokens(start=1, stop=4)"``.

    Raises:
        UnknownNameError: If there is no such selector.
        OptionError: If its numbers cannot be read, or have other names.
    """
    found = _CALL.fullmatch(text.strip())
    name = found.group(1) if found else text
    if found is None or name not in TOKEN_SELECTORS:
        raise UnknownNameError("token selector", name, TOKEN_SELECTORS)
    kind = TOKEN_SELECTORS[name]
    try:
        numbers = _numbers(kind, [w.strip() for w in (found.group(2) or "").split(",") if w.strip()])
    except (TypeError, ValueError):
        names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
        wanted = f"{name}({', '.join(f'{n}=1' for n in names)})"
        raise OptionError(f"tokens must be such as {wanted!r}, but got {text!r}.") from None
    return kind(**numbers)


def _numbers(kind: type[TokenSelector], words: Sequence[str]) -> dict[str, int]:
    """The numbers of a selector, in order or by name, as in a call.

    Raises:
        TypeError: If one is missing, given twice, or of an unknown name.
        ValueError: If a word is no whole number, or the order that of no call.
    """
    in_order = [int(w) for w in words if "=" not in w]
    by_name = [(n.strip(), int(number)) for n, _, number in (w.partition("=") for w in words if "=" in w)]
    if any("=" in w for w in words[: len(in_order)]) or len(dict(by_name)) < len(by_name):
        raise ValueError
    return inspect.signature(kind).bind(*in_order, **dict(by_name)).arguments
