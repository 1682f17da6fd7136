"""Baselines by text: telling or showing the model what to do, measured as maps are."""

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.concepts import (
    PLAIN,
    ChatFormat,
    ConceptDataset,
    Question,
    in_chat,
    with_examples,
    with_system,
    with_user,
)
from steerlens.errors import OptionError
from steerlens.evaluation._comparison import record_table
from steerlens.evaluation._per_token import mean_per_token, ratio_of_perplexities
from steerlens.evaluation._reliability import DoseCurve
from steerlens.evaluation._scores import CONTEXT_TOKENS, check_neutral, score_questions
from steerlens.evaluation._texts import document_of_each, documents_of
from steerlens.models import LensModel, TokenBatch
from steerlens.numerics import Estimate, cluster_mean

Array = npt.NDArray[np.float64]
N_SHOTS = 4
LEAST_SHARE = 1e-6
"""Of requests: budgets below this share of a text's cost are met by less."""
IN_CHAT = ", in chat format"
"""Ends the name of a text that was put in a chat format; its questions were, too, with and without it."""
TextRole = Literal["prompt", "opposite prompt", "few-shot"]


@final
@dataclass(frozen=True, eq=False)
class TextBaseline:
    """What a text in front of everything did, per question and per neutral text. All log-probabilities in nats.

    The arrays are those of `Measured`, with two rows: without the text (strength 0) and with it (strength 1).

    Args:
        name: Such as ``"prompt: Write in the past tense."``.
        questions: The questions as they were put without the text, column by column.
        propensity: log p(positive) − log p(negative), shape (2, question).
        propensity_per_token: The same with per-token means.
        log_prob: log p of the positive and of the negative continuation, shape (2, 2, question).
        kl: KL(without ‖ with) of next-token distributions at the same tokens of the same neutral text, summed over
            them, shape (2, text).
        nll: Negative log-likelihood likewise.
        n_tokens: Scored tokens of each text; the ones that `score_neutral` scores.
        continuation_tokens: Tokens of the positive and of the negative continuation, shape (2, 2, question).
        documents: The cluster of each text; empty, each text is its own.
    """

    name: str
    questions: tuple[Question, ...]
    propensity: Array
    propensity_per_token: Array
    log_prob: Array
    kl: Array
    nll: Array
    n_tokens: Array
    continuation_tokens: Array
    documents: tuple[Hashable, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "documents", document_of_each(self.documents, len(self.n_tokens)))

    @property
    def groups(self) -> tuple[Hashable, ...]:
        """The cluster of each question."""
        return tuple(q.group for q in self.questions)

    @property
    def dose_curve(self) -> DoseCurve:
        """Effect and cost of the text given to a share of all requests, for contrasts with maps.

        A text has no dose. Both grow as the share does; a curve with a second point close to 0 says so, for between
        two points of a straight line its power law is the line.
        """
        change, kl = self.propensity[1] - self.propensity[0], self.kl[1]
        shares = np.array([0.0, LEAST_SHARE, 1.0])
        return DoseCurve(
            tuple(shares.tolist()), np.outer(shares, change), self.groups, np.outer(shares, kl), self.n_tokens,
            documents=self.documents,
        )  # fmt: skip

    def effect(self, *, seed: int) -> Estimate:
        """Mean change of propensity, in nats.

        Raises:
            EstimateError: If there are fewer than five groups.
        """
        return cluster_mean(self.propensity[1] - self.propensity[0], self.groups, seed=seed)

    def cost(self, *, seed: int) -> Estimate:
        """KL on neutral text, in nats per token.

        Raises:
            EstimateError: If there are fewer than five documents.
        """
        return mean_per_token(self.kl[1], self.n_tokens, self.documents, seed=seed)

    def to_records(self, *, split: Literal["select", "test"], seed: int) -> pd.DataFrame:
        """Rows for a comparison's table of records, with ``role`` and ``family`` "text" and no site (layer −1)."""
        extra = self.propensity_per_token[1] - self.propensity_per_token[0]
        found = {
            "effect": self.effect(seed=seed),
            "kl": self.cost(seed=seed),
            "propensity": cluster_mean(self.propensity[1], self.groups, seed=seed),
            "effect_per_token": cluster_mean(extra, self.groups, seed=seed),
            "perplexity_ratio": ratio_of_perplexities(
                self.nll[1] - self.nll[0], self.n_tokens, self.documents, seed=seed
            ),
        }
        place = (split, "text", "text", self.name, "", -1)
        return record_table((place, 1.0, metric, e) for metric, e in found.items())


def prompt_baseline(
    model: LensModel,
    dataset: ConceptDataset,
    instruction: str,
    *,
    texts: Sequence[str],
    placement: str = "system",
    chat: ChatFormat = PLAIN,
) -> TextBaseline:
    """Put an instruction before every question, and before neutral text.

    Its effect is the change of propensity between the question with and without it, in the same format. Its cost is the
    KL between the next-token distributions on the same tokens of neutral text, without and with the instruction before
    them; in a conversation the text is the user's turn. That is a distance, as it is for maps, but a text may change
    neutral text for good reasons (another style), so compare costs of texts with costs of maps with care.

    Args:
        model: What to ask.
        dataset: Plain test pairs.
        instruction: Towards the concept, or away from it: pass either as an arm. An unrelated sentence is the control.
        texts: Neutral texts, those of the maps.
        placement: ``"system"``, as a system message, or ``"user"``, in the user's turn.
        chat: How turns are marked.

    Raises:
        OptionError: The instruction is empty, the placement unknown, or a text too short.
        ConceptError: The data set is a conversation already.
    """
    if placement not in ("system", "user"):
        raise OptionError(f"placement is 'system' or 'user', but got {placement!r}.")
    put = with_system if placement == "system" else with_user
    changed = put(dataset, instruction, chat=chat)
    opening = chat.opening(instruction) if placement == "system" else f"{chat.opening('')}{instruction}\n"
    return _measured(model, f"prompt: {instruction}", dataset, changed, opening, texts, chat)


def few_shot_baseline(
    model: LensModel,
    dataset: ConceptDataset,
    fit: ConceptDataset,
    *,
    n_shots: int,
    texts: Sequence[str],
    seed: int,
    chat: ChatFormat = PLAIN,
) -> TextBaseline:
    """Put examples of the positive behaviour before every question, and before neutral text.

    An example is a question of ``fit`` followed by its positive continuation, whichever text it asks about: the
    examples show what steering is meant to do. All questions see the same examples, of different groups as long as
    there are any; other draws are other seeds. Effect and cost are those of `prompt_baseline`.

    Args:
        model: What to ask.
        dataset: Plain test pairs.
        fit: Where examples come from; must share no group with ``dataset``.
        n_shots: Number of examples.
        texts: Neutral texts, those of the maps.
        seed: Of the draw.
        chat: How turns are marked; the examples stand in the user's turn.

    Raises:
        OptionError: The two share a group, or there are not so many questions to draw from.
        ConceptError: A data set is a conversation already.

    References:
        brown2020.
    """
    shared = set(fit.groups) & set(dataset.groups)
    if shared:
        raise OptionError(
            f"fit and test share {len(shared)} groups, such as {sorted(shared)[0]!r}, so that examples give answers "
            "away. Split by group: dataset.split(seed=0)."
        )
    if not 1 <= n_shots <= len(fit.questions):
        raise OptionError(f"{fit.name!r} has {len(fit.questions)} questions to draw from, but got n_shots={n_shots}.")
    examples = [q.context + q.positive for q in _drawn(fit, n_shots, seed)]
    changed = with_examples(dataset, examples, chat=chat)
    opening = chat.opening("") + "".join(f"{example}\n\n" for example in examples)
    return _measured(model, f"{n_shots}-shot", dataset, changed, opening, texts, chat)


def said_and_shown(
    model: LensModel,
    fit: ConceptDataset,
    test: ConceptDataset,
    texts: Sequence[str],
    instructions: tuple[str, str],
    seed: int,
    chat: ChatFormat = PLAIN,
) -> list[tuple[TextRole, TextBaseline]]:
    """An instruction towards the concept, one away from it, and four examples, on the questions of ``test``.

    They are plain text, as the questions are that maps are measured on. With a chat format they are measured in that,
    too, against the same questions in it: chat models may follow what they are told better there. Examples are left out
    where ``fit`` has fewer questions.
    """
    roles: tuple[TextRole, TextRole] = ("prompt", "opposite prompt")
    found: list[tuple[TextRole, TextBaseline]] = []
    for form in dict.fromkeys((PLAIN, chat)):
        own: list[tuple[TextRole, TextBaseline]] = [
            (role, prompt_baseline(model, test, instruction, texts=texts, chat=form))
            for role, instruction in zip(roles, instructions, strict=True)
        ]
        if len(fit.questions) >= N_SHOTS:
            shown = few_shot_baseline(model, test, fit, n_shots=N_SHOTS, texts=texts, seed=seed, chat=form)
            own.append(("few-shot", shown))
        found += [(role, t if form == PLAIN else replace(t, name=f"{t.name}{IN_CHAT}")) for role, t in own]
    return found


def _drawn(fit: ConceptDataset, n: int, seed: int) -> list[Question]:
    """Questions in random order, one of each group before a second of any."""
    draw = random.Random(seed)
    of_group: dict[str, list[Question]] = {group: [] for group in fit.groups}
    for q in fit.questions:
        of_group[q.group].append(q)
    groups = draw.sample(list(of_group.values()), len(of_group))
    shuffled = [draw.sample(g, len(g)) for g in groups]
    rounds = [g[i] for i in range(max(map(len, shuffled))) for g in shuffled if i < len(g)]
    return rounds[:n]


def _measured(
    model: LensModel,
    name: str,
    dataset: ConceptDataset,
    changed: ConceptDataset,
    opening: str,
    texts: Sequence[str],
    chat: ChatFormat,
) -> TextBaseline:
    base = dataset if chat == PLAIN else in_chat(dataset, chat)
    n = len(base.questions)
    scores = score_questions(model, [*base.questions, *changed.questions])
    kl, nll, n_tokens = score_openings(model, texts, chat.opening(""), opening)
    return TextBaseline(
        name=name,
        questions=base.questions,
        propensity=scores.propensity.numpy().reshape(2, n),
        propensity_per_token=scores.propensity_per_token.numpy().reshape(2, n),
        log_prob=np.stack([scores.positive.numpy(), scores.negative.numpy()]).reshape(2, 2, n),
        kl=np.stack([np.zeros(len(kl)), kl]),
        nll=nll,
        n_tokens=n_tokens,
        continuation_tokens=np.stack([scores.n_positive.double().numpy(), scores.n_negative.double().numpy()]).reshape(
            2, 2, n
        ),
        documents=documents_of(texts),
    )


def score_openings(model: LensModel, texts: Sequence[str], before: str, after: str) -> tuple[Array, Array, Array]:
    """Every text after either opening: KL(before ‖ after) and both likelihoods over the same tokens of the text.

    The text's own tokens are put behind the opening's, so that both passes predict the same tokens.
    """
    kl, nll, count = [], [], []
    rows = [model.encode(text) for text in texts]
    check_neutral(texts, rows)
    for text, whole in zip(texts, rows, strict=True):
        n = len(whole) - CONTEXT_TOKENS
        own = model.encode(text, bos=False)
        first, second = (
            last_log_probs(model, whole if not opening else model.encode(opening) + own, n)
            for opening in (before, after)
        )
        target = torch.tensor(own[-n:], device=first.device)[:, None]
        kl.append(float((first.exp() * (first - second)).sum()))
        nll.append([-float(of.gather(1, target).sum()) for of in (first, second)])
        count.append(float(n))
    return np.array(kl), np.array(nll).T, np.array(count)


def last_log_probs(model: LensModel, ids: list[int], n: int) -> Float[Tensor, "token vocab"]:
    """Next-token log-probabilities of the last ``n`` tokens, float32 or wider."""
    tokens = TokenBatch.from_rows([ids], pad_id=model.pad_id).to(model.device)
    model.check_length(len(ids))
    logits = model.logits(tokens)[0, -n - 1 : -1]
    return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(dim=-1)
