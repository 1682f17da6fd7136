"""One question, put fairly: which family of steering maps does most at one budget of side effects?"""

import math
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, final

import pandas as pd

from steerlens.activations import ContrastiveActivations, Reader, Site, extract
from steerlens.concepts import PLAIN, ChatFormat, ConceptDataset
from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation._arm_strengths import at_equal_budget, known_costs
from steerlens.evaluation._comparison import Comparison, Generation, Provenance
from steerlens.evaluation._controls import negative_controls, neutral_arm, random_arms
from steerlens.evaluation._finetuned import finetuned_baseline
from steerlens.evaluation._item_records import displacement_records, item_records, text_records
from steerlens.evaluation._measure import Arm, Measured, measure
from steerlens.evaluation._neutral import neutral_texts
from steerlens.evaluation._scores import score_resolution
from steerlens.evaluation._tables import (
    best_dose_frame,
    best_site,
    contrast_frame,
    dose_frame,
    headline_frame,
    record_frame,
)
from steerlens.evaluation._text_baselines import said_and_shown
from steerlens.evaluation._texts import documents_of, text_halves
from steerlens.interventions import Intervention, LoraFinetune, OutputMethod, generate
from steerlens.maps import LADDER, SteeringMap, SteeringMethod, method_family, method_name
from steerlens.models import LensModel
from steerlens.progress import progress

STRENGTHS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
KL_BUDGET = 0.1
"""Nats per token of neutral text: what steering may cost before its effect is compared."""

FittedMaps = dict[tuple[Site, str], SteeringMap]
Method = SteeringMethod | OutputMethod
"""What a comparison compares: methods fitted on activations, and methods trained through the model."""


@final
@dataclass(frozen=True)
class ComparisonPlan:
    """How a comparison is made, apart from model and data.

    Args:
        sites: Where methods may act; of several, one is chosen on the selection half.
        methods: What is compared.
        strengths: Grid, kept ascending and without repeats; must include 0 and 1. Negative ones are left out for maps
            without a reverse.
        budget: KL on neutral text, nats per token, at which effects are compared. Every map's strength is found on the
            selection half of the texts, up to four times the largest of the grid, and measured once on the test half.
        n_random: Random directions at the chosen site, each as long as the mean shift there.
        prompts: Texts to continue, unsteered and steered at the budget.
        instructions: What to say for and against the concept: prompts as rivals, with four examples beside them.
        controls: Whether methods fitted on activations are also fitted to exchanged labels and at a wrong layer, and
            the first principal component of neutral texts is tried.
        other: Another concept, whose maps are tried on this one's questions as a further control.
        finetune: Low-rank fine-tuning on the same pairs as a rival; None leaves it out.
        chat: The format that prompts as rivals are also given in, besides plain text.
        seed: Of bootstrap, random directions and exchanged labels.
    """

    sites: tuple[Site, ...]
    methods: tuple[Method, ...] = LADDER
    strengths: tuple[float, ...] = STRENGTHS
    budget: float = KL_BUDGET
    n_random: int = 20
    prompts: tuple[str, ...] = ()
    instructions: tuple[str, str] | None = None
    controls: bool = True
    other: ConceptDataset | None = None
    finetune: LoraFinetune | None = None
    chat: ChatFormat = PLAIN
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sites or not self.methods:
            raise OptionError("A comparison needs at least one site and one method.")
        names = [method_name(m) for m in self.methods]
        if len(set(names)) < len(names):
            raise OptionError(f"Methods must differ, but got {', '.join(names)}.")
        object.__setattr__(self, "strengths", tuple(sorted({float(s) for s in self.strengths})))
        if not {0.0, 1.0} <= set(self.strengths):
            raise OptionError(f"Strengths must include 0 and 1, but got {list(self.strengths)}.")
        if not all(math.isfinite(s) for s in self.strengths):
            raise OptionError(f"Strengths must be finite, but got {list(self.strengths)}.")
        if not 0 < self.budget < float("inf"):
            raise OptionError(f"A KL budget must be positive and finite (nats per token), but got {self.budget}.")
        if self.n_random < 0:
            raise OptionError(f"n_random must not be negative, but got {self.n_random}.")

    @property
    def upward(self) -> tuple[float, ...]:
        """Strengths from 0 upwards, ascending."""
        return tuple(sorted({float(s) for s in self.strengths if s >= 0}))


def compare(
    model: LensModel,
    fit: ConceptDataset,
    test: ConceptDataset,
    *,
    site: Site | None = None,
    sites: Iterable[Site] = (),
    select: ConceptDataset | None = None,
    methods: Sequence[Method] = LADDER,
    strengths: Sequence[float] = STRENGTHS,
    budget: float = KL_BUDGET,
    n_random: int = 20,
    neutral: Sequence[str] | None = None,
    prompts: Sequence[str] = (),
    instructions: tuple[str, str] | None = None,
    controls: bool = True,
    other: ConceptDataset | None = None,
    finetune: LoraFinetune | None = None,
    chat: ChatFormat = PLAIN,
    seed: int = 0,
    command: str = "",
) -> Comparison:
    """Compare steering methods at one budget of side effects, on held-out pairs, beside random directions.

    Maps are fitted on ``fit``. All methods are compared at one site; among several, it is the one where their mean
    effect at the budget is largest on ``select``. There the strength of every map, random directions and other controls
    included, is found at which KL on one half of the neutral texts is the budget, and all are measured once at it on
    ``test``, with the other half. Effects are changes of log-odds in nats.

    Args:
        model: What to steer.
        fit: Pairs to fit on.
        test: Pairs to report on; must share no group with ``fit`` or ``select``.
        site: The one site to steer at; or
        sites: several, of which one is chosen on ``select``.
        select: Pairs to choose the site on, needed with several sites, and each method's own best strength.
        methods: What to compare; see `steerlens.maps.LADDER`. Methods trained on the output, such as
            `steerlens.interventions.PreferenceShift`, are trained on ``fit``, too.
        strengths: Grid of strengths, with 0 and 1 in it.
        budget: KL on neutral text in nats per token at which effects are compared.
        n_random: Random directions at the chosen site.
        neutral: Neutral texts, at least ten; None takes the bundled ones. Of a `TextSet`, such as
            `steerlens.evaluation.read_texts` gives, documents are resampled, and none is in both halves.
        prompts: Texts to continue, unsteered and steered at the budget.
        instructions: What to say for and against the concept, such as `steerlens.concepts.instructions` has for the
            built-in ones. Saying it, and showing four examples of ``fit``, are measured on the same questions and
            texts, as rows of ``records`` with the role "text"; None leaves them out.
        controls: Whether each method that is fitted on activations is also fitted to the same pairs with labels
            exchanged in half of the groups, and at a wrong layer, and the first principal component of neutral texts
            is tried: rows of ``records`` with these roles.
        other: Another concept, whose maps are tried on this one's questions as a further control.
        finetune: Low-rank fine-tuning on ``fit`` by peft, as rows of ``records`` with the role "fine-tuned"; None
            leaves it out. It takes a second copy of the model in memory, and minutes.
        chat: A format in which ``instructions`` are tried, too, such as `steerlens.evaluation.chat_format` reads from
            the model: plain text, as the questions are, may be a weak way to tell a chat model what to do. The
            questions are then in that format with and without the instruction.
        seed: Of bootstrap, random directions and exchanged labels.
        command: What to print under "how to repeat it".

    Raises:
        OptionError: If an argument is out of range, or splits share a group.
        EstimateError: If what is measured on has fewer than five groups.
        SteerlensError: Whatever extraction, fitting or steering raises.
    """
    plan = ComparisonPlan(
        sites=(*((site,) if site is not None else ()), *sites),
        methods=tuple(methods),
        strengths=tuple(strengths),
        budget=budget,
        n_random=n_random,
        prompts=tuple(prompts),
        instructions=instructions,
        controls=controls,
        other=other,
        finetune=finetune,
        chat=chat,
        seed=seed,
    )
    return run_comparison(model, fit, test, plan, select=select, neutral=neutral, command=command)[0]


def run_comparison(
    model: LensModel,
    fit: ConceptDataset,
    test: ConceptDataset,
    plan: ComparisonPlan,
    *,
    select: ConceptDataset | None = None,
    neutral: Sequence[str] | None = None,
    command: str = "",
    read: Reader = extract,
) -> tuple[Comparison, FittedMaps]:
    """`compare`, with the fitted maps as well, keyed by site and method name; ``read`` is how activations are had."""
    started = time.monotonic()
    check_splits(fit, select, test, len(plan.sites))
    texts = neutral if neutral is not None else neutral_texts()
    choosing, reporting = text_halves(texts)
    activations = read(model, fit, plan.sites)
    maps = fit_maps(plan.methods, activations, model=model, pairs=fit)
    frames: list[pd.DataFrame] = []
    budget, seed, resolution = plan.budget, plan.seed, score_resolution(model)
    site, on_select = plan.sites[0], list[Measured]()
    if select is not None:
        on_select = _measure_all_sites(model, plan, maps, select, choosing, read)
        frames.append(record_frame(on_select, split="select", budget=budget, seed=seed, resolution=resolution))
        site = best_site(on_select, budget) if len(plan.sites) > 1 else site
    methods = [_arm(plan, m, site, maps, plan.strengths) for m in plan.methods]
    arms = [*methods, *_control_arms(model, fit, activations[site], plan, choosing)]
    arms = at_equal_budget(model, arms, choosing, budget, known=known_costs(on_select, arms))
    held_out = read(model, test, dict.fromkeys(a.site for a in arms))
    measured = measure(model, arms, test.questions, reporting, held_out)
    chosen, random = measured[: len(methods)], [m for m in measured if m.arm.role == "random"]
    frames.append(record_frame(measured, split="test", budget=budget, seed=seed, resolution=resolution))
    frames += [best_dose_frame(on_select, chosen, seed=seed)] if on_select else []
    said = []
    if plan.instructions:
        said = said_and_shown(model, fit, test, reporting, plan.instructions, seed, plan.chat)
    frames += [baseline.to_records(split="test", seed=seed) for _, baseline in said]
    tuned = []
    if plan.finetune is not None:
        tuned.append(finetuned_baseline(model, fit, test, texts=reporting, method=plan.finetune))
        frames.append(tuned[0].to_records(split="test", budget=budget, seed=seed))
    headline = headline_frame(chosen, random, budget=budget, n_tried=len(plan.sites), seed=seed, resolution=resolution)
    generations = _generations(model, plan, methods, headline)
    comparison = Comparison(
        provenance=_provenance(model, fit, select, test, plan, texts, command, time.monotonic() - started),
        records=pd.concat(frames, ignore_index=True),
        headline=headline,
        contrasts=contrast_frame(chosen, budget=budget, seed=seed, resolution=resolution),
        items=item_records(measured, said, tuned),
        texts=text_records(measured, said, tuned),
        generations=generations,
        doses=dose_frame(measured, budget),
        displacements=displacement_records(chosen),
    )
    return comparison, maps


def fit_maps(
    methods: Sequence[Method],
    activations: Mapping[Site, ContrastiveActivations],
    *,
    model: LensModel,
    pairs: ConceptDataset,
) -> FittedMaps:
    """Every method at every site, from negative to positive; those that need the model are trained through it.

    Args:
        methods: What is fitted.
        activations: Of ``pairs`` at every site.
        model: Where they come from.
        pairs: What they were read from.
    """
    fitted: FittedMaps = {}
    with progress(f"fit {len(methods)} methods", len(methods) * len(activations)) as advance:
        for site, found in activations.items():
            for method in methods:
                fitted[site, method_name(method)] = (
                    method.fit_output(model, pairs, site)
                    if isinstance(method, OutputMethod)
                    else method.fit(source=found.negative, target=found.positive)
                )
                advance(1)
    return fitted


def _measure_all_sites(
    model: LensModel, plan: ComparisonPlan, maps: FittedMaps, select: ConceptDataset, texts: Sequence[str], read: Reader
) -> list[Measured]:
    arms = [_arm(plan, method, site, maps, plan.upward) for site in plan.sites for method in plan.methods]
    return measure(model, arms, select.questions, texts, read(model, select, plan.sites))


def _arm(plan: ComparisonPlan, method: Method, site: Site, maps: FittedMaps, strengths: tuple[float, ...]) -> Arm:
    fitted = maps[site, method_name(method)]
    usable = strengths if fitted.reverse is not None else plan.upward
    return Arm(method_name(method), method_family(method), "method", site, fitted, usable)


def _control_arms(
    model: LensModel, fit: ConceptDataset, found: ContrastiveActivations, plan: ComparisonPlan, texts: Sequence[str]
) -> list[Arm]:
    arms = random_arms(found, plan.upward, n=plan.n_random, seed=plan.seed)
    fitted = [m for m in plan.methods if isinstance(m, SteeringMethod)]
    if plan.controls:
        arms += negative_controls(
            model, fitted, fit, found, plan.upward, n_permuted=1, other=plan.other, seed=plan.seed
        )
        arms.append(neutral_arm(model, found, texts, plan.upward))
    return arms


def _generations(
    model: LensModel, plan: ComparisonPlan, methods: Sequence[Arm], headline: pd.DataFrame
) -> tuple[Generation, ...]:
    """Greedy continuations of every prompt: unsteered, and under each method at the strength that meets the budget."""
    if not plan.prompts:
        return ()
    strengths = dict(zip(headline["method"], headline["strength"], strict=True))
    shown = [("unsteered", -1, Intervention({}, 0.0))]
    shown += [
        (arm.method, arm.site.layer, Intervention({arm.site: arm.steering_map}, float(strengths[arm.method])))
        for arm in methods
    ]
    texts = generate(model, plan.prompts, [one for *_, one in shown], max_new_tokens=30)
    return tuple(
        Generation(prompt, method, layer, one.strength, text)
        for (method, layer, one), row in zip(shown, texts, strict=True)
        for prompt, text in zip(plan.prompts, row, strict=True)
    )


def check_splits(fit: ConceptDataset, select: ConceptDataset | None, test: ConceptDataset, n_sites: int) -> None:
    """Refuse splits that share a group, or are too small for an interval.

    Raises:
        OptionError: If two share a group, or several sites have nothing to be chosen on.
        EstimateError: If what is measured on has fewer than five groups.
    """
    if n_sites > 1 and select is None:
        raise OptionError(
            f"Choosing among {n_sites} sites needs pairs to choose on. Pass select=, from dataset.split(seed=0), "
            "or give one site."
        )
    measured = [("test", test)] + ([("select", select)] if select is not None and n_sites > 1 else [])
    for name, part in measured:
        if len(part.groups) < 5:
            raise EstimateError(
                f"An interval needs at least 5 groups of pairs, but {name} has {len(part.groups)} "
                f"({len(part)} pairs). Measure on more groups."
            )
    parts = [("fit", fit), ("test", test)] + ([("select", select)] if select is not None else [])
    for i, (a, first) in enumerate(parts):
        for b, second in parts[i + 1 :]:
            shared = set(first.groups) & set(second.groups)
            if shared:
                raise OptionError(
                    f"{a} and {b} share {len(shared)} groups, such as {sorted(shared)[0]!r}, so what is fitted leaks "
                    "into what is reported. Split by group: dataset.split(seed=0)."
                )


def _provenance(
    model: LensModel,
    fit: ConceptDataset,
    select: ConceptDataset | None,
    test: ConceptDataset,
    plan: ComparisonPlan,
    texts: Sequence[str],
    command: str,
    seconds: float,
) -> Provenance:
    splits = {"fit": fit, "select": select, "test": test}
    return Provenance(
        question=(
            f"Which family of steering maps moves {fit.name!r} most in {model.name}, at {plan.budget:g} nats of KL "
            "per token of neutral text?"
        ),
        model=model_facts(model),
        concept={
            "name": fit.name,
            "description": fit.description,
            "source": fit.source,
            "licence": fit.licence,
            **{f"{k}_pairs": len(v) for k, v in splits.items() if v is not None},
            **{f"{k}_groups": len(v.groups) for k, v in splits.items() if v is not None},
            **{f"{k}_fingerprint": v.fingerprint for k, v in splits.items() if v is not None},
        },
        settings={
            "sites": [s.hook_name for s in plan.sites],
            "tokens": repr(plan.sites[0].tokens),
            "methods": [method_name(m) for m in plan.methods],
            "strengths": list(plan.strengths),
            "budget": plan.budget,
            "n_random": plan.n_random,
            "instructions": list(plan.instructions or ()),
            "chat": repr(plan.chat) if plan.chat != PLAIN else None,
            "controls": plan.controls,
            "finetune": repr(plan.finetune) if plan.finetune is not None else None,
            "other_concept": plan.other.name if plan.other is not None else None,
            "neutral_texts": len(texts),
            "neutral_documents": len(set(documents_of(texts))),
            "seed": plan.seed,
        },
        command=command,
        environment=environment(seconds),
    )


def model_facts(model: LensModel) -> dict[str, Any]:
    """What a result must say about its model."""
    return {
        "name": model.name,
        "revision": model.revision,
        "layers": model.n_layers,
        "width": model.d_model,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "bos": model.add_bos,
    }


def environment(seconds: float) -> dict[str, Any]:
    """Versions, date and machine."""
    packages = ("steerlens", "torch", "transformers", "transformer-lens")
    return {
        **{p: version(p) for p in packages},
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": round(seconds, 1),
    }
