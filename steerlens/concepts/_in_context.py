"""Prompts of in-context tasks: a question behind some examples, in formats that are data."""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import final

from steerlens.concepts._chat import PLAIN, ChatFormat
from steerlens.concepts._in_context_task import InContextTask, WordPair, check_example, group_of
from steerlens.concepts._instructions import distractors as known_distractors
from steerlens.concepts._instructions import drawn_distractors
from steerlens.concepts._pairs import Metadata, Scalar
from steerlens.errors import ConceptError, OptionError, UnknownNameError


@final
@dataclass(frozen=True)
class PromptFormat:
    """How pairs are written down: one form of words for the examples and for the question.

    The question is an example that ends where its output would begin, without the space before it, which belongs to
    the answer and decides its tokens.

    Attributes:
        name: Short name, such as ``"qa"``.
        example: Holds ``{input}`` and behind it ``{output}``, such as ``"Q: {input}\\nA: {output}"``; or it is
            ``"{sentence}"``, the task's own sentence.
        separator: What stands between examples.
        opening: What stands in front of everything, an empty line after it; ``"{instruction}"`` is the task's own. In
            a chat it is the system message.
        chat: How turns are marked. With a chat each example is a turn of the user's and a reply.

    Raises:
        ConceptError: The example does not hold input and output.
    """

    name: str
    example: str
    separator: str = "\n"
    opening: str = ""
    chat: ChatFormat = PLAIN

    def __post_init__(self) -> None:
        if self.example != "{sentence}":
            check_example(f"The example of the format {self.name!r}", self.example)

    def in_chat(self, chat: ChatFormat) -> "PromptFormat":
        """The same in turns of a conversation; see `steerlens.evaluation.chat_format`.

        Raises:
            OptionError: The format is `PLAIN`, or does not say what stands between a reply and the user's next text.
        """
        if not chat.next_user:
            raise OptionError(
                "Examples in turns need the marks between a reply and the user's next text, but this chat format has "
                "an empty next_user. Take chat_format(model), or fill it in."
            )
        return replace(self, name=f"{self.name}, chat", chat=chat)

    def for_task(self, task: InContextTask) -> "PromptFormat":
        """The same with the task's own sentence and instruction filled in.

        Raises:
            ConceptError: The task has no such text.
        """
        found = self
        for part, text in (("sentence", task.sentence), ("instruction", task.instruction)):
            mark = f"{{{part}}}"
            if (self.example == mark or mark in self.opening) and not text:
                raise ConceptError(
                    f"The format {self.name!r} needs the {part} of the task {task.name!r}, which has none. Give it "
                    f"one with dataclasses.replace(task, {part}=…), or choose another format."
                )
            found = replace(
                found,
                example=text if found.example == mark else found.example,
                opening=found.opening.replace(mark, text),
            )
        return found

    def question(self, given: str) -> str:
        """The example up to where its output begins, without the space before it; in a turn, without a line's end."""
        return self._head.rstrip(self._joining).replace("{input}", given)

    def answer(self, output: str) -> str:
        """What follows the question: the output, with the space before it; in a turn, bare."""
        return self._head[len(self._head.rstrip(self._joining)) :] + output if self.chat == PLAIN else output

    @property
    def _head(self) -> str:
        return self.example.partition("{output}")[0]

    @property
    def _joining(self) -> str:
        """What may go over to the answer: spaces, for a tokenizer joins them to the word. In a turn, what ends it."""
        return " " if self.chat == PLAIN else " \n"

    def prompt(self, demonstrations: Sequence[WordPair], given: str, *, context: str = "") -> str:
        """The opening, the context on a line of its own, the demonstrations, and the question."""
        between = self.separator if self.chat == PLAIN else self.chat.next_user
        tail = self.example.partition("{output}")[2]
        shown = "".join(
            self.question(before) + self.chat.after_user + self.answer(after) + tail + between
            for before, after in demonstrations
        )
        context = f"{context}\n" if context else ""
        return self.chat.opening(self.opening) + context + shown + self.question(given) + self.chat.after_user


FORMATS: Mapping[str, PromptFormat] = MappingProxyType(
    {
        one.name: one
        for one in (
            PromptFormat("qa", "Q: {input}\nA: {output}", separator="\n\n"),
            PromptFormat("arrow", "{input} → {output}"),
            PromptFormat("sentence", "{sentence}"),
            PromptFormat("words", "{input}\n{output}", separator="\n\n"),
            PromptFormat("instruction", "Q: {input}\nA: {output}", separator="\n\n", opening="{instruction}"),
        )
    }
)
"""Formats by name: questions and answers, arrows, the task's own sentence, bare words, and the task's instruction in
front of questions and answers. Any of them may be put in turns with `PromptFormat.in_chat`."""


def prompt_format(given: str | PromptFormat) -> PromptFormat:
    """The format of this name; a format is returned as it is.

    Raises:
        UnknownNameError: There is no such format.
    """
    if isinstance(given, PromptFormat):
        return given
    if given not in FORMATS:
        raise UnknownNameError("prompt format", given, FORMATS, "For one of your own, write a PromptFormat.")
    return FORMATS[given]


@final
@dataclass(frozen=True)
class TaskPrompt:
    """A question of a task behind its demonstrations, and the right answer.

    Attributes:
        prompt: Ends where the answer begins.
        answer: What should follow, with its leading space where the format has one.
        input: What is asked about.
        output: The right answer, bare.
        demonstrations: Inputs and outputs as they are shown; with shuffled labels the outputs are those of others.
        group: The cluster of the question: the word and its answer, in alphabetic order.
        task: Name of the task.
        format: Name of the format.
        metadata: ``n_shots``, ``shuffled``, ``distractors``, ``seed``; with shuffled labels also ``kept``, how many
            demonstrations show their own output all the same.
    """

    prompt: str
    answer: str
    input: str
    output: str
    demonstrations: tuple[WordPair, ...]
    group: str
    task: str
    format: str
    metadata: Mapping[str, Scalar] = field(default_factory=Metadata)


def task_prompts(
    pool: InContextTask,
    queries: InContextTask,
    *,
    format: str | PromptFormat,  # noqa: A002
    n_shots: int,
    shuffled: bool = False,
    distractors: int = 0,
    seed: int,
) -> tuple[TaskPrompt, ...]:
    """One prompt for every pair of ``queries``, with demonstrations from ``pool``.

    Prompts of different formats, numbers of shots and contexts are comparable: they ask about the same words in the
    same order. What is drawn depends on the seed, the question and the pool alone: every format shows the same
    demonstrations, and those of fewer shots are the first of more. Likewise the sentences of a shorter context are the
    first of a longer one's.

    No demonstration has the question's word in it, and none begins from its answer. Demonstrations of a word that is in
    the pool too are drawn from the others, so ``pool`` and ``queries`` may overlap.

    Args:
        pool: Where demonstrations come from.
        queries: What is asked.
        format: A name of `FORMATS`, or a format.
        n_shots: Number of demonstrations.
        shuffled: Show the inputs with the outputs of other demonstrations of the same prompt, in a random circle, so
            that no input has its own. With two shots they change places. Where more than half of the demonstrations
            share an output, as few as possible show their own, and metadata ``kept`` says how many.
        distractors: Neutral sentences in front of the first demonstration.
        seed: Of all that is drawn.

    Raises:
        UnknownNameError: There is no such format.
        OptionError: There are not so many demonstrations or sentences, or labels of fewer than two are to be shuffled.
        ConceptError: The format needs a sentence or an instruction that the task does not have.
    """
    _check_counts(n_shots, shuffled, distractors)
    written = prompt_format(format).for_task(queries)
    found = []
    for given, output in queries:
        drawn = _drawn(pool, (given, output), n_shots, seed)
        shown = _shuffled(drawn, random.Random(f"{seed}:{given}:labels")) if shuffled else drawn
        facts = {"n_shots": n_shots, "shuffled": shuffled, "distractors": distractors, "seed": seed}
        if shuffled:
            facts["kept"] = sum(before == after for before, after in zip(drawn, shown, strict=True))
        context = drawn_distractors(distractors, seed=seed, group=given)
        found.append(
            TaskPrompt(
                prompt=written.prompt(shown, given, context=context),
                answer=written.answer(output),
                input=given,
                output=output,
                demonstrations=shown,
                group=group_of((given, output)),
                task=queries.name,
                format=written.name,
                metadata=Metadata(facts),
            )
        )
    return tuple(found)


def _drawn(pool: InContextTask, query: WordPair, n_shots: int, seed: int) -> tuple[WordPair, ...]:
    """The first ``n_shots`` of the pairs that may be shown, by the hash of seed, query and pair."""
    given, output = query
    allowed = [pair for pair in pool if given not in pair and pair[0] != output]
    if n_shots > len(allowed):
        raise OptionError(
            f"n_shots={n_shots}, but {pool.name!r} has {len(allowed)} pairs that may be shown before the question "
            f"{given!r}. Ask for fewer, or draw from a larger pool."
        )

    def rank(pair: WordPair) -> bytes:
        return hashlib.sha256(json.dumps([seed, given, pair[0]]).encode("ascii")).digest()

    return tuple(sorted(allowed, key=rank)[:n_shots])


def _shuffled(pairs: Sequence[WordPair], draw: random.Random) -> tuple[WordPair, ...]:
    """The inputs with outputs of others: equal outputs sit together in a random circle, and all move on by the number
    of the commonest, so that one comes back to its own only where more than half are the same.
    """
    counts = Counter(output for _, output in pairs)
    most = max(counts.values())
    place = {output: (count < most, draw.random()) for output, count in counts.items()}
    circle = sorted(range(len(pairs)), key=lambda i: place[pairs[i][1]])
    giver = {taker: circle[(k + most) % len(circle)] for k, taker in enumerate(circle)}
    return tuple((given, pairs[giver[i]][1]) for i, (given, _) in enumerate(pairs))


def _check_counts(n_shots: int, shuffled: bool, distractors: int) -> None:
    if n_shots < 0:
        raise OptionError(f"n_shots is the number of demonstrations, 0 or more, but got {n_shots}.")
    if shuffled and n_shots < 2:
        raise OptionError(f"Labels are shuffled between at least two demonstrations, but n_shots={n_shots}.")
    if not 0 <= distractors <= len(known_distractors()):
        raise OptionError(
            f"A context has 0 to {len(known_distractors())} sentences, but got distractors={distractors}."
        )
