"""Whether steering does on a model what it says: the invariants, each with the largest difference seen."""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.activations import (
    AllTokens,
    AnswerToken,
    FromIndex,
    LastToken,
    PromptEnd,
    PromptTokens,
    Site,
    SpanTokens,
    TokenSelector,
)
from steerlens.interventions._edits import Intervention
from steerlens.interventions._replay import Replayed, replay, why_not_replay
from steerlens.interventions._steer import steer
from steerlens.maps import AdditiveMap, RankOneMap, SteeringMap
from steerlens.models import LensModel, PaddingSide, TokenBatch, TokenTree
from steerlens.progress import progress

EXACT = 1e-9
"""What float64 may differ by. Other dtypes may differ by as much as the plain model does between batches."""
ROUNDING = {torch.float32: 1e-3, torch.bfloat16: 0.15, torch.float16: 0.15}
"""Between batches, as a share of the largest logit. In bfloat16 the largest of many differences is large by itself."""
NOISE_FACTOR = 4.0
"""Times that noise between batches, which is itself an extreme of few, may be exceeded elsewhere."""
SELECTORS: tuple[TokenSelector, ...] = (
    LastToken(), AllTokens(), PromptTokens(), PromptEnd(), AnswerToken(), FromIndex(2), SpanTokens(1, 3)
)  # fmt: skip


@final
@dataclass(frozen=True)
class Invariant:
    """One thing that must hold.

    Args:
        name: What must be equal.
        difference: Largest difference of a logit that was seen.
        allowed: Largest that counts as rounding.
        where: The intervention that gave the largest difference; empty if none is involved.
    """

    name: str
    difference: float
    allowed: float
    where: str = ""

    @property
    def holds(self) -> bool:
        """Whether the difference is rounding. Not a number never is."""
        return self.difference <= self.allowed


@final
@dataclass(frozen=True)
class ModelReport:
    """What `check_model` found.

    Args:
        model: Name of the model.
        dtype: Its precision.
        invariants: What must hold.
        n_interventions: How many interventions were tried.
        effect: Smallest largest change of a logit that an intervention made: what a lost edit would look like.
        rounding: What counts as rounding in a steered pass.
        fallback: Why replay is not used on this model; empty if it is.
    """

    model: str
    dtype: str
    invariants: tuple[Invariant, ...]
    n_interventions: int
    effect: float
    rounding: float
    fallback: str

    @property
    def holds(self) -> bool:
        """Whether every invariant holds, and every intervention did what could not be rounding.

        In half precision rounding can be larger than the effect of a weak intervention, which then shows only that it
        did something; try float32 to be sure.
        """
        half = self.dtype in ("bfloat16", "float16")
        return all(i.holds for i in self.invariants) and self.effect > (0.0 if half else self.rounding)

    def __str__(self) -> str:
        lines = [f"{self.model} in {self.dtype}, {self.n_interventions} interventions, differences of logits"]
        for one in self.invariants:
            verdict = "holds" if one.holds else "FAILS"
            where = f"   at {one.where}" if one.where and not one.holds else ""
            lines.append(f"  {verdict}  {one.name:<34}{one.difference:9.2g}   allowed {one.allowed:.2g}{where}")
        lines.append(f"  each intervention changes some logit by at least {self.effect:.2g}")
        if self.fallback:
            lines.append(f"  replay is not used: {self.fallback}")
        return "\n".join(lines)


def probe_interventions(
    model: LensModel, *, layers: Iterable[int] = (), selectors: Sequence[TokenSelector] = ()
) -> list[Intervention]:
    """Interventions that together touch every kind of site and every selector, and several sites at once.

    Args:
        model: What to try them on.
        layers: Blocks; by default the first, a middle and the last one, with the selectors taking turns.
        selectors: If given, every site is tried with every one of them.
    """
    wanted = sorted(set(layers) or {0, model.n_layers // 2, model.n_layers - 1})
    sites = [site for layer in wanted for site in _sites(model, layer)]
    if selectors:
        sites = [Site(s.hook_name, selector, s.head) for s in sites for selector in selectors]
    else:
        sites = [Site(s.hook_name, SELECTORS[i % len(SELECTORS)], s.head) for i, s in enumerate(sites)]
        sites += [Site.resid_post(wanted[len(wanted) // 2], selector) for selector in SELECTORS]
    maps = {width: _maps(model, width) for width in {model.d_model, model.d_head}}
    width = {site: site.check(model) for site in sites}
    # The ablation has no reverse, so only the shift takes the negative strength.
    strengths = ((1.0, -0.5, 2.0), (0.5, 1.0, 2.0))
    found = [Intervention({site: maps[width[site]][i % 2]}, strengths[i % 2][i % 3]) for i, site in enumerate(sites)]
    last = wanted[-1]
    shift, ablation = maps[model.d_model]
    several = [{Site.resid_pre(last, AllTokens()): shift, Site.resid_pre(last): ablation, Site.attn_out(last): shift}]
    if last > 0:
        several.append({Site.resid_post(0): shift, Site.resid_pre(last, AllTokens()): ablation})
        several.append({Site.resid_pre(last): ablation, Site.resid_post(last - 1): shift})
    return [*found, *(Intervention(plan, 1.5) for plan in several)]


def check_model(model: LensModel, interventions: Sequence[Intervention] | None = None) -> ModelReport:
    """Try the invariants of steering and replay on seeded random token ids.

    Args:
        model: What to try; nothing is left on it.
        interventions: What to try with; by default `probe_interventions`.
    """
    tried = probe_interventions(model) if interventions is None else list(interventions)
    trees = _trees(model)
    rows = [(t.prompt + c[:-1], len(t.prompt)) for t in trees for c in t.continuations]
    plain = _logits(model, rows, "right")
    worst = dict.fromkeys(("replay", "batched", "left", "cached", "zero"), (0.0, ""))
    noise = max(_apart(plain, _single(model, rows)), _apart(plain, _logits(model, rows, "left")))
    effect = float("inf")
    replayed = _replayed(model, trees, tried)

    def note(name: str, difference: float, one: Intervention) -> None:
        # Not a number, once seen, stays.
        if not (difference <= worst[name][0] or math.isnan(worst[name][0])):
            worst[name] = (difference, " and ".join(str(site) for site in one.plan))

    with progress(f"check {model.name}", len(tried)) as advance:
        for k, one in enumerate(tried):
            with steer(model, one.plan, strength=one.strength):
                steered = _logits(model, rows, "right")
                note("batched", _apart(steered, _single(model, rows)), one)
                note("left", _apart(steered, _logits(model, rows, "left")), one)
                note("cached", _apart(steered, _cached(model, rows)), one)
            note("replay", float((_cells(steered, trees) - replayed[k]).abs().max()), one)
            with steer(model, one.plan, strength=0.0):
                note("zero", _apart(plain, _logits(model, rows, "right")), one)
            effect = min(effect, _apart(steered, plain))
            advance(1)
    noise = max(noise, worst["batched"][0], worst["left"][0])
    scale = float(torch.cat(plain).abs().max())
    floor = torch.finfo(model.dtype).eps * scale
    exact = model.dtype == torch.float64
    own = EXACT if exact else ROUNDING[model.dtype] * scale
    allowed = EXACT if exact else NOISE_FACTOR * max(noise, floor)
    names = (
        ("batched", "batched = one at a time", own),
        ("left", "left padding = right padding", own),
        ("cached", "KV cache = none", allowed),
        ("zero", "strength 0 = unsteered", 0.0),
        ("replay", "replay = hooks", allowed),
    )
    return ModelReport(
        model=model.name,
        dtype=str(model.dtype).removeprefix("torch."),
        invariants=tuple(Invariant(label, worst[name][0], most, worst[name][1]) for name, label, most in names),
        n_interventions=len(tried),
        effect=effect,
        rounding=allowed,
        fallback=why_not_replay(model, tried),
    )


Rows = Sequence[tuple[tuple[int, ...], int]]


def _sites(model: LensModel, layer: int) -> Iterator[Site]:
    yield Site.resid_pre(layer)
    if not model.parallel_blocks and f"blocks.{layer}.ln1.hook_in" in model.hook_names:
        yield Site.resid_mid(layer)
    yield Site.resid_post(layer)
    for site in (Site.attn_out(layer), Site.mlp_out(layer), Site.z(layer, model.n_heads - 1)):
        if site.hook_name in model.hook_names:
            yield site


def _maps(model: LensModel, width: int) -> tuple[SteeringMap, SteeringMap]:
    """One that adds a random direction, and one whose change depends on what it is given."""
    generator = torch.Generator().manual_seed(width)
    shift, direction = torch.randn(2, width, generator=generator, dtype=torch.float64)
    r, zero = direction / direction.norm(), torch.zeros((), dtype=torch.float64)
    return AdditiveMap(shift), RankOneMap(r, r, torch.zeros_like(r), zero, zero + torch.inf)


def _trees(model: LensModel) -> list[TokenTree]:
    """Prompts of unequal length with one, two or three continuations of one to four random tokens."""
    draw = random.Random(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(draw.randrange(model.d_vocab) for _ in range(n))

    shapes = ((9, (1, 3)), (4, (2,)), (17, (4, 1, 2)), (6, (1,)))
    return [TokenTree(ids(n), tuple(ids(m) for m in lengths)) for n, lengths in shapes]


def _batch(model: LensModel, rows: Rows, side: PaddingSide) -> TokenBatch:
    return TokenBatch.from_rows(
        [ids for ids, _ in rows], pad_id=model.pad_id, padding_side=side, n_prompt=[n for _, n in rows]
    ).to(model.device)


def _logits(model: LensModel, rows: Rows, side: PaddingSide) -> list[Float[Tensor, "token vocab"]]:
    batch = _batch(model, rows, side)
    real = batch.attention_mask.bool()
    return [row[mask].double().cpu() for row, mask in zip(model.logits(batch), real, strict=True)]


def _single(model: LensModel, rows: Rows) -> list[Float[Tensor, "token vocab"]]:
    return [_logits(model, [row], "right")[0] for row in rows]


def _cached(model: LensModel, rows: Rows) -> list[Float[Tensor, "token vocab"]]:
    """All but the last two columns in one pass, and those in two more, over a left-padded batch."""
    batch = _batch(model, rows, "left")
    width = batch.ids.shape[1]
    parts: list[Tensor] = []
    past = None
    begin = 0
    for end in (width - 2, width - 1, width):
        head = TokenBatch(batch.ids[:, :end], batch.attention_mask[:, :end], batch.n_prompt)
        cache: dict[str, Any] = {} if past is None else {"past_key_values": past}
        logits, past = model.run(head, first_column=begin, use_cache=True, return_type="logits_and_cache", **cache)
        parts.append(logits)
        begin = end
    whole = torch.cat(parts, dim=1)
    real = batch.attention_mask.bool()
    return [row[mask].double().cpu() for row, mask in zip(whole, real, strict=True)]


def _apart(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return float(torch.stack([(x - y).abs().max() for x, y in zip(a, b, strict=True)]).max())


def _cells(logits: Sequence[Tensor], trees: Sequence[TokenTree]) -> Float[Tensor, "target vocab"]:
    """Of plain rows, the logits from which each continuation token is predicted."""
    texts = [(len(t.prompt), len(c)) for t in trees for c in t.continuations]
    return torch.cat([row[n - 1 : n - 1 + m] for row, (n, m) in zip(logits, texts, strict=True)])


def _replayed(
    model: LensModel, trees: Sequence[TokenTree], interventions: Sequence[Intervention]
) -> dict[int, Float[Tensor, "target vocab"]]:
    first = [0]
    for tree in trees:
        first.append(first[-1] + sum(map(len, tree.continuations)))
    out = {k: torch.zeros(first[-1], model.d_vocab, dtype=torch.float64) for k in range(len(interventions))}

    def keep(part: Replayed) -> None:
        which = torch.cat([torch.arange(first[t], first[t + 1]) for t in part.trees])
        values = part.logits[:, part.batch.targets.cell].double().cpu()
        for i, k in enumerate(part.interventions):
            out[k][which] = values[min(i, len(values) - 1)]

    replay(model, trees, interventions, keep)
    return out
