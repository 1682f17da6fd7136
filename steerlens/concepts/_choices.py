"""Open prompts as multiple choice: both continuations stand in the question, and a letter is asked for."""

from dataclasses import replace

from steerlens.concepts._dataset import ConceptDataset
from steerlens.concepts._open_ended import open_ended_items
from steerlens.concepts._pairs import ContrastivePair
from steerlens.errors import ConceptError


def lettered_choices(dataset: ConceptDataset) -> ConceptDataset:
    """Each pair as two questions with lettered options: the positive continuation under A, and then under B.

    A question is the pair's open prompt (`open_ended_items`), a line for each option, and ``Answer: (``; its
    continuations are the letters. A liking for a letter raises one order by as much as it lowers the other, and falls
    out of their mean. Metadata ``answer_letter`` is the letter of the positive option, ``asked`` the number of the
    pair: questions that share it differ in order alone.

    Raises:
        ConceptError: The data set is a conversation already, or nothing would be left of a continuation.

    References:
        rimsky2024 (the form of the question).
    """
    if any(pair.metadata.get("chat") for pair in dataset):
        raise ConceptError(
            f"{dataset.name!r} is a conversation already, and the options would stand behind the user's turn. Expected "
            "plain prompts. Make the choices first, and put them into a chat format with in_chat."
        )
    pairs = [pair for i, one in enumerate(open_ended_items(dataset)) for pair in _both_orders(one, i)]
    before = f"{dataset.description} " if dataset.description else ""
    return replace(dataset, pairs=tuple(pairs), description=f"{before}As multiple choice, in both orders.")


def _both_orders(pair: ContrastivePair, number: int) -> tuple[ContrastivePair, ContrastivePair]:
    return (
        _asked(pair, number, (pair.positive, pair.negative), "A", "B"),
        _asked(pair, number, (pair.negative, pair.positive), "B", "A"),
    )


def _asked(pair: ContrastivePair, number: int, options: tuple[str, str], letter: str, other: str) -> ContrastivePair:
    first, second = (option.strip() for option in options)
    lines = [
        *([pair.prompt.rstrip(), ""] if pair.prompt.strip() else []),
        "Choices:",
        f" (A) {first}",
        f" (B) {second}",
    ]
    return ContrastivePair(
        "\n".join([*lines, "", "Answer: ("]),
        letter,
        other,
        pair.group,
        {**pair.metadata, "answer_letter": letter, "asked": number},
    )
