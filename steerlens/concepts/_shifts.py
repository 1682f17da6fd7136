"""The same questions in other surroundings: is a map that was fitted in one setting of use in another?

Each function takes a data set and returns one with the same pairs in the same order, so that question i of both is the
same question. Metadata ``shift`` names what was done. Shifts compose; one with a chat format comes last.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from steerlens.concepts._chat import PLAIN, ChatFormat
from steerlens.concepts._dataset import ConceptDataset
from steerlens.concepts._instructions import Instructions, distractors, drawn_distractors, instructions
from steerlens.concepts._pairs import ContrastivePair
from steerlens.errors import ConceptError, OptionError

BASE = "BASE"
CONTEXT_LENGTHS = (1, 3)
"""Distractor sentences of the standard set."""

Rewrite = Callable[[ContrastivePair], str]
"""The user's text that takes the place of a pair's prompt."""


def in_chat(dataset: ConceptDataset, chat: ChatFormat) -> ConceptDataset:
    """The prompts as the user's turn of a conversation without a system message.

    The continuations become replies. Where a pair has answers its whole texts are the user's turn, and the answers are
    the replies.

    Raises:
        OptionError: The format is `PLAIN`.
        ConceptError: The data set is a conversation already.
    """
    if chat == PLAIN:
        raise OptionError("in_chat needs a chat format, but got PLAIN, which marks no turns. See chat_format(model).")
    return _rewritten(dataset, lambda pair: pair.prompt, chat, shift="chat")


def with_system(dataset: ConceptDataset, text: str, *, chat: ChatFormat = PLAIN) -> ConceptDataset:
    """The prompts after a system message; in plain text it is a paragraph of its own.

    Raises:
        OptionError: The text is empty.
        ConceptError: The data set is a conversation already.
    """
    _check_text("A system message", text)
    return _rewritten(dataset, lambda pair: pair.prompt, chat, system=text, shift=f"system: {text}")


def with_user(dataset: ConceptDataset, text: str, *, chat: ChatFormat = PLAIN) -> ConceptDataset:
    """The prompts after an instruction in the user's own turn, on a line of its own.

    In plain text this differs from `with_system` in an empty line and nothing else.

    Raises:
        OptionError: The text is empty.
        ConceptError: The data set is a conversation already.
    """
    _check_text("An instruction", text)
    return _rewritten(dataset, lambda pair: f"{text}\n{pair.prompt}", chat, shift=f"user: {text}")


def with_persona(dataset: ConceptDataset, persona: str, *, chat: ChatFormat = PLAIN) -> ConceptDataset:
    """The prompts after the system message "You are …."

    Args:
        dataset: The pairs.
        persona: What follows "You are", such as ``"a tired night porter"``.
        chat: How turns are marked.

    Raises:
        OptionError: The persona is empty.
        ConceptError: The data set is a conversation already.
    """
    _check_text("A persona", persona)
    system = f"You are {persona}."
    return _rewritten(dataset, lambda pair: pair.prompt, chat, system=system, shift=f"persona: {persona}")


def with_context(dataset: ConceptDataset, n_sentences: int, *, seed: int, chat: ChatFormat = PLAIN) -> ConceptDataset:
    """The prompts after neutral sentences on everyday things, on a line of their own.

    Pairs of one group have the same sentences. Those of a shorter context are the first of a longer one's.

    Args:
        dataset: The pairs.
        n_sentences: From 1 to the number of sentences there are, 24.
        seed: Decides which sentences each group gets.
        chat: How turns are marked.

    Raises:
        OptionError: There are not so many sentences.
        ConceptError: The data set is a conversation already.
    """
    known = distractors()
    if not 1 <= n_sentences <= len(known):
        raise OptionError(f"A context has 1 to {len(known)} sentences, but got n_sentences={n_sentences}.")
    drawn = {group: drawn_distractors(n_sentences, seed=seed, group=group) for group in dataset.groups}
    return _rewritten(
        dataset, lambda pair: f"{drawn[pair.group]}\n{pair.prompt}", chat, shift=f"context: {n_sentences} sentences"
    )


def with_examples(dataset: ConceptDataset, examples: Sequence[str], *, chat: ChatFormat = PLAIN) -> ConceptDataset:
    """The prompts after worked examples, each a paragraph.

    Args:
        dataset: The pairs.
        examples: Whole texts; draw them from pairs that share no group with these.
        chat: How turns are marked; the examples stand in the user's turn.

    Raises:
        OptionError: There is no example.
        ConceptError: The data set is a conversation already.
    """
    if isinstance(examples, str) or not examples:
        raise OptionError(f"with_examples takes a non-empty list of texts, but got {examples!r}.")
    before = "".join(f"{example}\n\n" for example in examples)
    return _rewritten(dataset, lambda pair: before + pair.prompt, chat, shift=f"examples: {len(examples)}")


def with_template(dataset: ConceptDataset, template: str, *, chat: ChatFormat = PLAIN) -> ConceptDataset:
    """The prompts within another form of words.

    Args:
        dataset: The pairs.
        template: Holds ``{prompt}`` once, such as ``"Complete the sentence. {prompt}"``. The continuation follows what
            stands after it.
        chat: How turns are marked.

    Raises:
        OptionError: The template does not hold ``{prompt}`` exactly once.
        ConceptError: The data set is a conversation already.
    """
    if template.count("{prompt}") != 1:
        raise OptionError(f"A template holds {{prompt}} exactly once, but got {template!r}.")
    return _rewritten(
        dataset, lambda pair: template.replace("{prompt}", pair.prompt), chat, shift=f"template: {template}"
    )


def with_translation(
    dataset: ConceptDataset, translation: ConceptDataset, language: str, *, chat: ChatFormat = PLAIN
) -> ConceptDataset:
    """A translation that you supply, seen to be one of the same pairs in the same order.

    Args:
        dataset: The pairs.
        translation: Each pair in another language, under the group of its original.
        language: Its name, for the metadata.
        chat: How turns are marked.

    Raises:
        ConceptError: The groups are not those of the data set, or one of a pair has answers and the other has not.
    """
    _check_text("A language", language)
    same = [p.group for p in dataset] == [p.group for p in translation]
    if not same or any((a.answers is None) != (b.answers is None) for a, b in zip(dataset, translation, strict=True)):
        raise ConceptError(
            f"{translation.name!r} is no translation of {dataset.name!r}, pair by pair. Expected {len(dataset)} pairs "
            f"with the same groups in the same order, answers where the original has them, and got {len(translation)}. "
            "Keep the order and the groups."
        )
    return _rewritten(
        replace(translation, name=dataset.name), lambda pair: pair.prompt, chat, shift=f"language: {language}"
    )


def shifts(
    dataset: ConceptDataset,
    *,
    seed: int,
    said: Instructions | None = None,
    contexts: tuple[int, ...] = CONTEXT_LENGTHS,
    chat: ChatFormat = PLAIN,
) -> dict[str, ConceptDataset]:
    """The standard set of shifts: BASE, SYS_POS, SYS_NEG, USER_POS, USER_NEG and CONTEXT_n.

    Args:
        dataset: The pairs, or one part of a split.
        seed: Of the contexts.
        said: Instructions towards the concept and away from it; None takes those of the built-in concept.
        contexts: Numbers of distractor sentences.
        chat: How turns are marked, in BASE too.

    Raises:
        UnknownNameError: The concept is not built in, and there are no instructions.

    References:
        tan2024, section 6 (the five prompts; the contexts are ours).
    """
    both = instructions(dataset.name) if said is None else said
    base = _rewritten(dataset, lambda pair: pair.prompt, chat, shift=BASE)
    found = {
        BASE: base,
        "SYS_POS": with_system(dataset, both.positive, chat=chat),
        "SYS_NEG": with_system(dataset, both.negative, chat=chat),
        "USER_POS": with_user(dataset, both.positive, chat=chat),
        "USER_NEG": with_user(dataset, both.negative, chat=chat),
    }
    return found | {f"CONTEXT_{n}": with_context(dataset, n, seed=seed, chat=chat) for n in contexts}


def _rewritten(
    dataset: ConceptDataset, user: Rewrite, chat: ChatFormat, *, shift: str, system: str = ""
) -> ConceptDataset:
    if any(pair.metadata.get("chat") for pair in dataset):
        raise ConceptError(
            f"{dataset.name!r} is a conversation already, and what is put before it would stand outside the user's "
            "turn. Expected plain prompts. Shift first, and give the chat format to the last shift."
        )
    pairs = tuple(_pair(pair, chat.opening(system) + user(pair), chat, shift) for pair in dataset)
    before = f"{dataset.description} " if dataset.description else ""
    return replace(dataset, pairs=pairs, description=f"{before}Shift: {pairs[0].metadata['shift']}.")


def _pair(pair: ContrastivePair, prompt: str, chat: ChatFormat, shift: str) -> ContrastivePair:
    before = pair.metadata.get("shift")
    metadata = {**pair.metadata, "shift": f"{before} + {shift}" if before else shift}
    if chat != PLAIN:
        metadata["chat"] = True
    if pair.answers is None:
        positive, negative = chat.reply(pair.positive), chat.reply(pair.negative)
        return replace(pair, prompt=prompt + chat.after_user, positive=positive, negative=negative, metadata=metadata)
    yes, no = (chat.reply(answer) for answer in pair.answers)
    positive, negative = pair.positive + chat.after_user, pair.negative + chat.after_user
    return replace(pair, prompt=prompt, positive=positive, negative=negative, answers=(yes, no), metadata=metadata)


def _check_text(what: str, text: str) -> None:
    if not text.strip():
        raise OptionError(f"{what} needs a visible character, but got {text!r}.")
