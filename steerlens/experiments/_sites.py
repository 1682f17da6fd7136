"""Token selectors as text, and back."""

import dataclasses
import re

from steerlens.activations import AllTokens, AnswerToken, FromIndex, LastToken, PromptTokens, SpanTokens, TokenSelector
from steerlens.errors import OptionError, UnknownNameError

SELECTORS: dict[str, type[TokenSelector]] = {
    kind.__name__: kind for kind in (LastToken, AllTokens, PromptTokens, AnswerToken, FromIndex, SpanTokens)
}
_CALL = re.compile(r"(\w+)\s*(?:\((.*)\))?")


def selector(text: str) -> TokenSelector:
    """The selector that this text means, such as ``"LastToken"`` or ``"SpanTokens(start=1, stop=4)"``.

    Raises:
        UnknownNameError: If there is no such selector.
        OptionError: If its numbers cannot be read.
    """
    found = _CALL.fullmatch(text.strip())
    name = found.group(1) if found else text
    if found is None or name not in SELECTORS:
        raise UnknownNameError("token selector", name, SELECTORS)
    kind = SELECTORS[name]
    names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    words = [w.strip() for w in (found.group(2) or "").split(",") if w.strip()]
    try:
        numbers = dict(zip(names, (int(w.split("=")[-1]) for w in words), strict=True))
    except ValueError:
        wanted = f"{name}({', '.join(f'{n}=1' for n in names)})"
        raise OptionError(f"tokens must be such as {wanted!r}, but got {text!r}.") from None
    return kind(**numbers)
