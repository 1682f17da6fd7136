"""A model's own chat template, as a value."""

from typing import Any

from jinja2 import TemplateError

from steerlens.concepts import ChatFormat
from steerlens.errors import ModelError
from steerlens.models import LensModel

_SYSTEM, _USER = "SYSTEMTEXT", "USERTEXT"


def chat_format(model: LensModel) -> ChatFormat:
    """The marks that the model's template puts around the turns, found by rendering a conversation.

    Where a template has no system turn (Gemma), the system message becomes the first paragraph of the user's turn. A
    template may put a system message of its own where none is given (SmolLM2 does).

    Raises:
        ModelError: The tokenizer has no chat template, or the template does not show the texts as they are.
    """
    tokenizer: Any = model.tokenizer
    if getattr(tokenizer, "chat_template", None) is None:
        raise ModelError(
            f"{model.name!r} has no chat template, so it is not a chat model. Use steerlens.concepts.PLAIN, or write a "
            "ChatFormat."
        )
    before, after = _around(model, _rendered(model, {"user": _USER}), _USER)
    try:
        both = _rendered(model, {"system": _SYSTEM, "user": _USER})
    except TemplateError:
        return ChatFormat(before_system=before, after_system="\n\n", before_user=before, after_user=after)
    opening, _ = _around(model, both, _USER)
    first, second = _around(model, opening, _SYSTEM)
    return ChatFormat(before_system=first, after_system=second, before_user=before, after_user=after)


def _rendered(model: LensModel, turns: dict[str, str]) -> str:
    tokenizer: Any = model.tokenizer
    messages = [{"role": role, "content": text} for role, text in turns.items()]
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text


def _around(model: LensModel, text: str, mark: str) -> tuple[str, str]:
    if text.count(mark) != 1:
        raise ModelError(
            f"The chat template of {model.name!r} shows a turn {text.count(mark)} times. Expected it once. Write a "
            "ChatFormat by hand."
        )
    before, _, after = text.partition(mark)
    return before, after
