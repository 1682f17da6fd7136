"""References in the model's own words: what it writes when it is told to have the concept, or to lack it."""

from collections.abc import Sequence

from steerlens.concepts import PLAIN, ChatFormat, ConceptDataset, ContrastivePair, Instructions
from steerlens.errors import ConceptError, OptionError
from steerlens.evaluation._scores import UNSTEERED
from steerlens.interventions import generate
from steerlens.models import LensModel


def generated_references(
    model: LensModel,
    items: ConceptDataset | Sequence[str],
    said: Instructions,
    *,
    max_new_tokens: int = 24,
    chat: ChatFormat = PLAIN,
) -> ConceptDataset:
    """Replace the references of open prompts by what the model writes under opposite instructions.

    References by people or by another model are out of the model's distribution; these are in it. Each prompt is
    continued greedily, unsteered, after either instruction as a system message, and the instructions are then taken
    away. Prompts under which both say the same, or one says nothing, are left out, and the description counts them.

    Args:
        model: Writes the references.
        items: Plain open prompts, whose own references are not used; or questions, each of which is then a group. A
            prompt that several items share is asked once.
        said: What to tell the model; see `steerlens.concepts.instructions`.
        max_new_tokens: Length of a reference.
        chat: How turns are marked; the items that come back are marked likewise.

    Raises:
        OptionError: The items are a conversation already, or there are none.
        ConceptError: No prompt is left.

    References:
        pres2024 (whose references another model wrote).
    """
    name, asked = _asked(items)
    both = [
        [chat.opening(text) + prompt + chat.after_user for prompt in asked] for text in (said.positive, said.negative)
    ]
    written = generate(model, [*both[0], *both[1]], [UNSTEERED], max_new_tokens=max_new_tokens)[0]
    replies = [text[len(prompt) :] for text, prompt in zip(written, [*both[0], *both[1]], strict=True)]
    about: dict[str, str | bool] = {"references": "the model's own"}
    if chat != PLAIN:
        about["chat"] = True
    pairs = []
    for (prompt, group), yes, no in zip(asked.items(), replies[: len(asked)], replies[len(asked) :], strict=True):
        if yes.strip() and no.strip() and yes != no:
            opening = chat.opening("") + prompt + chat.after_user
            pairs.append(ContrastivePair(opening, yes, no, group, metadata=about))
    if not pairs:
        raise ConceptError(
            f"{model.name!r} says the same under both instructions, or nothing, for all {len(asked)} prompts of "
            f"{name!r}. Change the instructions, or give references of your own."
        )
    note = f"References written by {model.name}; {len(asked) - len(pairs)} of {len(asked)} prompts left out."
    if isinstance(items, ConceptDataset):
        return ConceptDataset(name, tuple(pairs), note, source=items.source, licence=items.licence)
    return ConceptDataset(name, tuple(pairs), note)


def _asked(items: ConceptDataset | Sequence[str]) -> tuple[str, dict[str, str]]:
    """A name, and each prompt once with its group."""
    if not isinstance(items, ConceptDataset):
        if isinstance(items, str) or not items:
            raise OptionError(f"References need open prompts, a data set or a list of texts, but got {items!r}.")
        return "open questions", {text: text for text in items}
    if any(pair.metadata.get("chat") for pair in items):
        raise OptionError(f"{items.name!r} is a conversation already. Pass plain items, and the chat format as chat=.")
    return items.name, {pair.prompt: pair.group for pair in items}
