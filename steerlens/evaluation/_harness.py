"""A steered model as a model of lm-evaluation-harness. Imported only when a task of the harness is to be run."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from steerlens.errors import OptionError
from steerlens.evaluation._scores import UNSTEERED
from steerlens.evaluation._tree_scores import score_trees
from steerlens.interventions import Intervention, generate
from steerlens.models import LensModel, TokenTree
from steerlens.progress import progress

Ids = tuple[int, ...]
_LOG = logging.getLogger(__name__)
_BESIDE = 64
"""Continuation tokens that may share a row with a short prompt; with a longer prompt, as many as it has."""
_NEW_TOKENS = 256
"""Most tokens to generate where a task says nothing: the harness's own number."""
_LENGTH_UNSAID = 2048
"""Context window of a model whose configuration names none: the harness's own number."""


@final
class SteeredLM(TemplateLM):  # type: ignore[misc]
    """A model under one intervention, as lm-evaluation-harness wants it.

    Borders between context and continuation, empty contexts, truncation from the left and rolling windows are the
    harness's own: unsteered log-likelihoods equal those of its Hugging Face class. For token selectors the context is
    the prompt.

    Args:
        model: What to evaluate.
        intervention: What is done to it; None leaves it as it is.
        seed: Of sampling, in tasks that sample.
    """

    def __init__(self, model: LensModel, intervention: Intervention | None = None, *, seed: int) -> None:
        super().__init__()
        self.tokenizer = model.tokenizer
        self._model = model
        self._device = model.device
        self._answers = Answers(model, (intervention or UNSTEERED,), seed=seed)
        self._number = 0

    @classmethod
    def sharing(cls, model: LensModel, interventions: Sequence[Intervention], *, seed: int) -> "tuple[SteeredLM, ...]":
        """One for each intervention. What the first is asked is computed for all, in one replay."""
        answers = Answers(model, tuple(interventions), seed=seed)
        made = tuple(cls(model, one, seed=seed) for one in interventions)
        for number, lm in enumerate(made):
            lm._answers, lm._number = answers, number
        return made

    # -- facts that the harness asks for ---------------------------------------------------------------------

    @property
    def eot_token_id(self) -> int:
        """End of text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What an empty context becomes: BOS, or end of text if there is none."""
        first = self.tokenizer.bos_token_id
        return self.eot_token_id if first is None else int(first)

    @property
    def max_length(self) -> int:
        """Longest row, in tokens, that is given to the model."""
        return context_window(self._model) or _LENGTH_UNSAID

    @property
    def tokenizer_name(self) -> str:
        """Name under which the harness may cache requests."""
        return f"{self._model.name}__{self._model.revision}".replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Ids of a text, with the BOS that the tokenizer puts in front unless it is declined."""
        bos = self._model.add_bos if add_special_tokens is None else add_special_tokens and self._model.add_bos
        if not string:
            return [self.prefix_token_id] if bos else []
        return self._model.encode(string, bos=bos)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as text, in the tokenizer's own format."""
        if not getattr(self.tokenizer, "chat_template", None):
            raise OptionError(
                f"The tokenizer of {self._model.name!r} has no chat template. Evaluate it without one, or load a chat "
                "model."
            )
        return str(
            self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    # -- what the harness runs -------------------------------------------------------------------------------

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Log-probability of each continuation, and whether greedy decoding would write it."""
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return found

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        pairs = [self._fitting(context or [self.prefix_token_id], wanted) for _, context, wanted in requests]
        return self._answers.scores(pairs, self._number)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """Log-probability of whole texts, in windows as long as the model takes."""
        windows: list[tuple[int, list[int], list[int]]] = []
        for number, request in enumerate(requests):
            rolling = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            windows += [(number, *make_disjoint_window(pair)) for pair in rolling]
        sums = [0.0] * len(requests)
        for (number, _, _), (log_prob, _) in zip(windows, self._loglikelihood_tokens(windows), strict=True):
            sums[number] += log_prob
        return sums

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Continuations up to the first stop string, none of which they contain."""
        end = str(self.tokenizer.decode([self.eot_token_id]))
        plans: dict[tuple[Any, ...], list[int]] = {}
        for number, request in enumerate(requests):
            plans.setdefault(_decoding(request.args[1], end), []).append(number)
        out = [""] * len(requests)
        for (stop, new_tokens, temperature), numbers in plans.items():
            contexts = [self._shortened(requests[n].args[0], new_tokens) for n in numbers]
            texts = self._answers.texts(contexts, stop, new_tokens, temperature, self._number)
            for number, text in zip(numbers, texts, strict=True):
                out[number] = text
        return out

    # -- inside ----------------------------------------------------------------------------------------------

    def _fitting(self, context: list[int], continuation: list[int]) -> tuple[Ids, Ids]:
        """Context and continuation, cut from the left to what the model takes."""
        if not continuation:
            raise OptionError("A continuation has no tokens. Give every choice of the task a text of its own.")
        if len(continuation) > self.max_length:
            raise OptionError(
                f"A continuation has {len(continuation)} tokens, but {self._model.name!r} takes {self.max_length}. "
                "Leave this document out, or score it as rolling log-likelihood."
            )
        kept = (context + continuation)[-(self.max_length + 1) :]
        n = len(continuation)
        return tuple(kept[:-n]), tuple(kept[-n:])

    def _shortened(self, context: str, new_tokens: int) -> str:
        """The end of a context that leaves room for what is generated."""
        room = self.max_length - new_tokens
        if room < 1:
            raise OptionError(
                f"{new_tokens} tokens are to be generated, but {self._model.name!r} takes {self.max_length} in all. "
                "Lower max_gen_toks in the task."
            )
        ids = self.tok_encode(context)
        if len(ids) <= room:
            return context if ids else str(self.tokenizer.decode([self.prefix_token_id]))
        _LOG.warning("A context of %d tokens is cut from the left to %d.", len(ids), room)
        text, kept = context, room
        while len(ids) > room:
            text = str(self.tokenizer.decode(ids[-kept:], clean_up_tokenization_spaces=False))
            ids, kept = self.tok_encode(text), kept - 1
        return text


@final
class Answers:
    """What was computed for all interventions, so that none computes it again. Grows; everything else is fixed."""

    def __init__(self, model: LensModel, interventions: tuple[Intervention, ...], *, seed: int) -> None:
        self._model, self._interventions, self._seed = model, interventions, seed
        self._scores: dict[Ids, dict[Ids, list[tuple[float, bool]]]] = {}
        self._texts: dict[tuple[Any, ...], list[str]] = {}

    def scores(self, pairs: Sequence[tuple[Ids, Ids]], number: int) -> list[tuple[float, bool]]:
        """Log-probability and greediness of each (prompt, continuation) under one of the interventions."""
        missing: dict[Ids, dict[Ids, None]] = {}
        for prompt, continuation in pairs:
            if continuation not in self._scores.get(prompt, {}):
                missing.setdefault(prompt, {})[continuation] = None
        trees = [tree for prompt, of in missing.items() for tree in _trees(prompt, list(of))]
        if trees:
            self._score(trees)
        return [self._scores[prompt][continuation][number] for prompt, continuation in pairs]

    def _score(self, trees: Sequence[TokenTree]) -> None:
        n = sum(len(t.continuations) for t in trees)
        with progress(f"score {n} continuations", len(trees) * len(self._interventions)) as advance:
            found = score_trees(self._model, trees, self._interventions, advance=advance)
        columns = zip(found.log_prob.T.tolist(), found.greedy.T.tolist(), strict=True)
        for tree in trees:
            known = self._scores.setdefault(tree.prompt, {})
            for continuation in tree.continuations:
                known[continuation] = list(zip(*next(columns), strict=True))

    def texts(
        self, contexts: Sequence[str], stop: tuple[str, ...], new_tokens: int, temperature: float, number: int
    ) -> list[str]:
        """Continuations of each context under one of the interventions; a context given twice is sampled twice."""
        seen: dict[str, int] = {}
        keys = []
        for context in contexts:
            keys.append((context, stop, new_tokens, temperature, seen.get(context, 0)))
            seen[context] = seen.get(context, 0) + 1
        missing = [key for key in keys if key not in self._texts]
        if missing:
            prompts = [key[0] for key in missing]
            made = generate(
                self._model,
                prompts,
                self._interventions,
                max_new_tokens=new_tokens,
                temperature=temperature,
                seed=self._seed,
                stop=stop,
            )
            for p, key in enumerate(missing):
                self._texts[key] = [of[p][len(prompts[p]) :] for of in made]
        return [self._texts[key][number] for key in keys]


def context_window(model: LensModel) -> int | None:
    """Tokens of the longest text that the model was made for; None if its configuration does not say."""
    said = getattr(model.config, "max_position_embeddings", None)
    return None if said is None else int(said)


def _trees(prompt: Ids, continuations: Sequence[Ids]) -> Iterator[TokenTree]:
    """Continuations of one prompt in trees whose rows stay short: attention pays for their square."""
    most = max(_BESIDE, len(prompt))
    begin = columns = 0
    for i, continuation in enumerate(continuations):
        if i > begin and columns + len(continuation) > most:
            yield TokenTree(prompt, tuple(continuations[begin:i]))
            begin, columns = i, 0
        columns += len(continuation)
    yield TokenTree(prompt, tuple(continuations[begin:]))


def _decoding(options: Mapping[str, Any], end: str) -> tuple[tuple[str, ...], int, float]:
    """Stop strings, most new tokens and temperature of a request.

    Raises:
        OptionError: If it asks for a way of decoding that there is not.
    """
    asked = dict(normalize_gen_kwargs(dict(options), _NEW_TOKENS))
    stop = tuple(s for s in handle_stop_sequences(asked.get("until"), eos=end) if s)
    temperature = float(asked.get("temperature") or 0.0) if asked.get("do_sample") else 0.0
    if asked.get("do_sample") and "temperature" not in options:
        temperature = 1.0
    neutral = {"num_beams": 1, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    shaping = ("num_beams", "repetition_penalty") if temperature == 0 else tuple(neutral)
    strange = {k: asked[k] for k in shaping if asked.get(k) not in (None, neutral[k])}
    if strange:
        raise OptionError(
            f"The task asks for {strange}, but a steered model is decoded greedily or sampled at a temperature. Set "
            "generation_kwargs of the task accordingly."
        )
    return stop, int(asked["max_gen_toks"]), temperature
