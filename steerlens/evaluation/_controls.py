"""Negative controls of a steering method: the same procedure where there is nothing, or something else, to find."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from steerlens.activations import AllTokens, ContrastiveActivations, Site, extract
from steerlens.concepts import ConceptDataset, ContrastivePair
from steerlens.errors import OptionError
from steerlens.evaluation._mean_step import step_length
from steerlens.evaluation._measure import Arm, Role
from steerlens.maps import AdditiveMap, SteeringMethod, method_family, method_name, random_direction
from steerlens.models import LensModel
from steerlens.numerics import moments, principal_subspace


def random_arms(found: ContrastiveActivations, strengths: tuple[float, ...], *, n: int, seed: int) -> list[Arm]:
    """Random directions at a site, each as long as the mean difference of the pairs there.

    Where the classes' means agree up to rounding (weekdays, each carried to the next: every day is source and target)
    they are as long as the pairs' differences are on average.
    """
    norm = step_length(found.positive.double() - found.negative.double())
    width = found.positive.shape[1]
    return [
        Arm(
            f"random {i:02d}", "random", "random", found.site,
            random_direction(width, norm=norm, seed=seed * 10_000 + i), strengths,
        )
        for i in range(n)
    ]  # fmt: skip


def neutral_arm(
    model: LensModel, found: ContrastiveActivations, texts: Sequence[str], strengths: tuple[float, ...]
) -> Arm:
    """Along the first principal component of neutral texts, as long as the mean difference of the pairs, its way.

    A text is the mean over its tokens. The component is where activations vary most whatever the concept; of its two
    signs it has that of the mean difference, which is the harder control. Where the means agree up to rounding it is as
    long as the pairs' differences are on average.

    Args:
        model: What is steered.
        found: Activations of the pairs at the site.
        texts: Two or more, not those that side effects are measured on.
        strengths: Of the arm.
    """
    once = list(dict.fromkeys(texts))
    pairs = [ContrastivePair("", *two, f"{i}") for i, two in enumerate(zip(once[::2], once[1::2], strict=False))]
    read = replace(found.site, tokens=AllTokens())
    there = extract(model, ConceptDataset("neutral texts", tuple(pairs)), [read])[read]
    U, _ = principal_subspace(moments(torch.cat([there.positive, there.negative]).double()).cov, 1)
    differences = found.positive.double() - found.negative.double()
    sign = 1.0 if float(U[:, 0] @ differences.mean(0)) >= 0 else -1.0
    along = AdditiveMap(sign * step_length(differences) * U[:, 0])
    return Arm("PC1 of neutral texts", "additive", "neutral direction", found.site, along, strengths)


def exchanged(found: ContrastiveActivations, *, seed: int) -> ContrastiveActivations:
    """The same pairs with positive and negative exchanged in half of the groups, drawn at random.

    What is fitted to them sees the same activations and no concept. Of an even number of groups exactly half are
    exchanged, so that no draw keeps most labels.
    """
    names = list(dict.fromkeys(found.groups))
    drawn = np.random.default_rng(seed).permutation(len(names))[: len(names) // 2]
    chosen = {names[i] for i in drawn}
    swap = torch.tensor([g in chosen for g in found.groups], device=found.positive.device)[:, None]
    return replace(
        found,
        positive=torch.where(swap, found.negative, found.positive),
        negative=torch.where(swap, found.positive, found.negative),
    )


def negative_controls(
    model: LensModel,
    methods: Sequence[SteeringMethod],
    fit: ConceptDataset,
    found: ContrastiveActivations,
    strengths: tuple[float, ...],
    *,
    n_permuted: int,
    other: ConceptDataset | None,
    seed: int,
) -> list[Arm]:
    """Every method fitted to exchanged labels, to another concept, and at a wrong layer, where there is one.

    Args:
        model: What is steered.
        methods: Fitted on activations.
        fit: Pairs of the concept.
        found: Their activations at the site.
        strengths: Of all arms.
        n_permuted: Draws of exchanged labels.
        other: Another concept; None leaves it out.
        seed: Of the exchanged labels.
    """
    site, arms = found.site, []
    for i in range(n_permuted):
        pairs = exchanged(found, seed=seed * 10_000 + i)
        arms += [_arm(m, f"{method_name(m)}, exchanged labels {i:02d}", "permuted", pairs, strengths) for m in methods]
    if other is not None:
        there = extract(model, other, [site])[site]
        arms += [_arm(m, f"{method_name(m)} of {other.name}", "other concept", there, strengths) for m in methods]
    if model.n_layers > 1:
        wrong = wrong_layer(model, site)
        away = extract(model, fit, [wrong])[wrong]
        arms += [_arm(m, f"{method_name(m)} at block {wrong.layer}", "wrong layer", away, strengths) for m in methods]
    return arms


def _arm(
    method: SteeringMethod, name: str, role: Role, found: ContrastiveActivations, strengths: tuple[float, ...]
) -> Arm:
    fitted = method.fit(source=found.negative, target=found.positive)
    return Arm(name, method_family(method), role, found.site, fitted, strengths)


def wrong_layer(model: LensModel, site: Site) -> Site:
    """The same hook point and tokens at the end of the model that is farther from the site: block 0, or the last.

    Raises:
        OptionError: If the model has one block.
    """
    if model.n_layers < 2:
        raise OptionError(f"A wrong layer needs a model of two blocks or more, but {model.name!r} has one.")
    last = model.n_layers - 1
    there = 0 if 2 * site.layer >= last else last
    return replace(site, hook_name=site.hook_name.replace(f"blocks.{site.layer}.", f"blocks.{there}.", 1))


def resampled_arms(
    found: ContrastiveActivations, method: SteeringMethod, strengths: tuple[float, ...], *, n: int, seed: int
) -> list[Arm]:
    """The method fitted to bootstrap resamples of the groups of pairs: how much of its effect is its sample's."""
    names = list(dict.fromkeys(found.groups))
    rows = [[i for i, g in enumerate(found.groups) if g == name] for name in names]
    rng, arms = np.random.default_rng(seed), []
    for k in range(n):
        drawn = torch.tensor([i for j in rng.integers(len(names), size=len(names)) for i in rows[j]])
        fitted = method.fit(source=found.negative[drawn], target=found.positive[drawn])
        arms.append(Arm(f"resampled {k:02d}", method_family(method), "resampled", found.site, fitted, strengths))
    return arms
