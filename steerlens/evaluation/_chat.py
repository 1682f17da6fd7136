"""A model's own chat template, as a value."""

from typing import Any

from jinja2 import TemplateError

from steerlens.concepts import ChatFormat
from steerlens.errors import ModelError
from steerlens.models import LensModel

_SYSTEM, _USER, _REPLY, _NEXT = "SYSTEMTEXT", "USERTEXT", "REPLYTEXT", "NEXTTEXT"
_Turns = tuple[tuple[str, str], ...]


def chat_format(model: LensModel) -> ChatFormat:
    """The marks that the model's template puts around the turns, found by rendering a conversation.

    Where a template has no system turn (Gemma), the system message becomes the first paragraph of the user's turn. A
    template may put a system message of its own where none is given (SmolLM2 does). Where a template takes no second
    turn of the user's, ``next_user`` is empty.

    Raises:
        ModelError: The tokenizer has no chat template, or the template does not show the texts as they are.
    """
    tokenizer: Any = model.tokenizer
    if getattr(tokenizer, "chat_template", None) is None:
        raise ModelError(
            f"{model.name!r} has no chat template, so it is not a chat model. Use steerlens.concepts.PLAIN, or write a "
            "ChatFormat."
        )
    before, after = _around(model, _rendered(model, (("user", _USER),)), _USER)
    between = _between_turns(model)
    try:
        both = _rendered(model, (("system", _SYSTEM), ("user", _USER)))
    except TemplateError:
        return ChatFormat(before, "\n\n", before, after, between)
    opening, _ = _around(model, both, _USER)
    first, second = _around(model, opening, _SYSTEM)
    return ChatFormat(first, second, before, after, between)


def _between_turns(model: LensModel) -> str:
    """What stands between a reply and the user's next text; empty where the template shows no such conversation."""
    try:
        text = _rendered(model, (("user", _USER), ("assistant", _REPLY), ("user", _NEXT)))
    except TemplateError:
        return ""
    if text.count(_REPLY) != 1 or text.count(_NEXT) != 1:
        return ""
    return text.partition(_REPLY)[2].partition(_NEXT)[0]


def _rendered(model: LensModel, turns: _Turns) -> str:
    tokenizer: Any = model.tokenizer
    messages = [{"role": role, "content": text} for role, text in turns]
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
