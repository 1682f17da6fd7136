"""Days lie on a ring: a rotation carries each to the next, and no translation can. Needs the demo model; two minutes.

Maps are fitted on pairs (day, next day) read at the day's token, and put to work at the day's token of other sentences.
The answer is right if it is the answer that the model gives, unsteered, to the sentence with the next day in it:
steering is compared with what it should imitate, not with what the model ought to know.
"""

import sys
from collections.abc import Sequence

import torch

import steerlens as sl
from steerlens.numerics import Estimate, cluster_mean

CYCLES = {
    "weekdays": (
        "day",
        (
            "If today is{}, then tomorrow is",
            "If it is{} today, then tomorrow it will be",
            "Today is{}. The day after that is",
            "Today is{}, and tomorrow is",
            "It is{} today, so tomorrow will be",
            "Since today is{}, tomorrow must be",
        ),
    ),
    "months": (
        "month",
        (
            "If this month is{}, then next month is",
            "If it is{} now, then next month it will be",
            "This month is{}. The month after that is",
            "This month is{}, and next month is",
            "It is{} now, so next month will be",
            "Since this month is{}, next month must be",
        ),
    ),
}
LAYERS = (2, 6, 10)


def answers(
    model: sl.LensModel, prompts: Sequence[str], names: Sequence[str], interventions: Sequence[sl.Intervention]
) -> torch.Tensor:
    """Number of the likeliest name after every prompt, under every intervention."""
    scores = sl.score_continuations(model, prompts, [[f" {n}" for n in names]] * len(prompts), interventions)
    return scores.log_prob.reshape(len(interventions), len(prompts), len(names)).argmax(dim=-1)


def advanced(model: sl.LensModel, concept: str, layer: int) -> dict[str, Estimate]:
    """Share of steered answers that are those of the next day's own sentence, by method, clustered by sentence."""
    key, templates = CYCLES[concept]
    pairs = sl.load_concept(concept)
    names = list(dict.fromkeys(str(p.metadata[key]) for p in pairs))
    fit, _, _ = pairs.split(seed=0)
    site = sl.Site.resid_post(layer)
    found = sl.extract(model, fit, [site])[site]
    length = float((found.positive - found.negative).double().norm(dim=1).mean())
    methods = (sl.maps.Procrustes(), sl.maps.PairedRidge(), sl.maps.MeanShift(), sl.maps.GaussianTransport())
    maps: dict[str, sl.SteeringMap] = {type(m).__name__: m.fit(found.negative, found.positive) for m in methods}
    # Translations as long as the step from day to day: one that is right for the first day, and random ones.
    first = torch.tensor([p.metadata["index"] == 0 for p in fit])
    step = (found.positive - found.negative).double()[first].mean(dim=0)
    maps[f"{names[0]} to {names[1]}"] = sl.maps.AdditiveMap(step)
    maps |= {f"random {i}": sl.maps.random_direction(model.d_model, norm=length, seed=i) for i in range(3)}
    hits: dict[str, list[float]] = {"unsteered": [], **{name: [] for name in maps}}
    for template in templates:
        prompts = [template.format(f" {n}") for n in names]
        before = template.partition("{}")[0]
        at = len(model.encode(before))
        token = sl.activations.SpanTokens(at, at + 1)
        plans = [{sl.Site.resid_post(layer, tokens=token): m} for m in maps.values()]
        given = answers(model, prompts, names, [sl.Intervention({}, 0.0), *sl.grid(plans, [1.0])])
        wanted = given[0].roll(-1)
        for name, row in zip(hits, given, strict=True):
            hits[name] += (row == wanted).double().tolist()
    groups = [template for template in templates for _ in names]
    return {name: cluster_mean(values, groups, seed=0) for name, values in hits.items()}


def main() -> None:
    """A table for each cycle: methods by layers."""
    model = sl.load_model(sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m-instruct")
    for concept in CYCLES:
        by_layer = [advanced(model, concept, layer) for layer in LAYERS]
        print(f"\n{concept}: share of answers that are those of the next one's own sentence")
        print(f"{'':<22}" + "".join(f"block {layer:<19}" for layer in LAYERS))
        for name in by_layer[0]:
            print(f"{name:<22}" + "".join(f"{found[name]!s:<25}" for found in by_layer))
        print(f"n = {by_layer[0]['unsteered'].n} answers in {by_layer[0]['unsteered'].n_clusters} sentences")


if __name__ == "__main__":
    main()
