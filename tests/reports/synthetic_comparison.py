"""A comparison with the shape of a real one, made from known curves and a seed: no model, no network."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any, final

import numpy as np
import pandas as pd

from steerlens.evaluation import Comparison, Generation, Provenance, steerability
from steerlens.evaluation._comparison import (
    CONTRAST_COLUMNS,
    HEADLINE_COLUMNS,
    ITEM_COLUMNS,
    RECORD_COLUMNS,
    SAMPLE_COLUMNS,
    TEXT_COLUMNS,
)

BUDGET = 0.1
LAYERS = (8, 14, 20)
N, GROUPS, DIRECTIONS = 40, 12, 20
FORWARD = (0.0, 0.5, 1.0, 2.0, 3.0)
BOTH = (-2.0, -1.0, *FORWARD)


@final
@dataclass(frozen=True)
class Planted:
    """What a method does, by construction."""

    method: str
    family: str
    layer: int
    gain: float
    ceiling: float
    spread: float
    cost: float
    strengths: tuple[float, ...]

    def effect(self, strength: float, gain: float | None = None) -> float:
        slope = self.gain if gain is None else gain
        return float(self.ceiling * np.tanh(slope * strength / self.ceiling))

    def kl(self, strength: float) -> float:
        return self.cost * strength**2


METHODS = (
    Planted("MeanShift", "additive", 14, 1.1, 6.0, 0.5, 0.05, BOTH),
    Planted("DirectionalAblation", "affine", 8, 0.12, 0.3, 0.25, 0.01, FORWARD),
    Planted("GaussianTransport", "affine", 14, 1.0, 4.0, 0.5, 0.045, BOTH),
    Planted("ResidualMLP", "nonlinear", 20, 2.1, 5.0, 0.7, 0.07, BOTH),
)


def site_of(layer: int) -> str:
    return f"blocks.{layer}.hook_resid_post"


def record(**given: Any) -> dict[str, Any]:
    base = {
        "split": "test", "role": "method", "level": 0.95, "n": N, "n_clusters": GROUPS,
        "interval": "cluster bootstrap, BCa, 2000",
    }  # fmt: skip
    return base | given


def method_rows(planted: Planted, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    where = {
        "family": planted.family,
        "method": planted.method,
        "site": site_of(planted.layer),
        "layer": planted.layer,
    }
    for s in planted.strengths:
        e, kl = planted.effect(s), planted.kl(s)
        half = 0.0 if s == 0 else 0.08 + 0.12 * abs(s)
        rows += [
            record(**where, strength=s, metric="propensity", value=-0.8 + e, low=-1.25 + e, high=-0.4 + e),
            record(**where, strength=s, metric="effect", value=e, low=e - half, high=e + half),
            record(**where, strength=s, metric="kl", value=kl, low=0.85 * kl, high=1.2 * kl, n=64, n_clusters=64),
            record(
                **where,
                strength=s,
                metric="perplexity_ratio",
                value=1 + kl,
                low=1 + 0.7 * kl,
                high=1 + 1.4 * kl,
            ),
            record(
                **where,
                strength=s,
                metric="displacement",
                value=0.08 * abs(s),
                low=0.07 * abs(s),
                high=0.09 * abs(s),
            ),
        ]
    for layer in LAYERS:
        share = 1 - 0.06 * abs(layer - planted.layer)
        value = planted.effect(np.sqrt(BUDGET / planted.cost)) * share + 0.03 * rng.standard_normal()
        rows.append(
            record(
                split="select",
                family=planted.family,
                method=planted.method,
                site=site_of(layer),
                layer=layer,
                strength=1.4,
                metric="effect_at_budget",
                value=value,
                low=value - 0.3,
                high=value + 0.3,
            )
        )
    return rows


def random_rows(rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for layer in LAYERS:
        for i in range(DIRECTIONS):
            gain, cost = 0.22 * rng.standard_normal(), 0.03 * np.exp(0.3 * rng.standard_normal())
            where = {"family": "random", "method": f"random {i:02d}", "site": site_of(layer), "layer": layer}
            for s in FORWARD:
                e, kl = float(gain * s), float(cost * s**2)
                rows += [
                    record(
                        **where,
                        role="random",
                        strength=s,
                        metric="effect",
                        value=e,
                        low=e - 0.2,
                        high=e + 0.2,
                    ),
                    record(**where, role="random", strength=s, metric="kl", value=kl, low=0.9 * kl, high=1.1 * kl),
                ]
    return rows


def sample_rows(planted: Planted, rng: np.random.Generator) -> list[dict[str, Any]]:
    gains = planted.gain + planted.spread * rng.standard_normal(N)
    base = rng.normal(-0.8, 1.0, N)
    return [
        {
            "method": planted.method, "family": planted.family, "site": site_of(planted.layer),
            "layer": planted.layer, "question": f"q{q:02d}", "group": f"g{q % GROUPS:02d}",
            "side": "AB"[q % 2], "strength": s, "propensity": base[q] + planted.effect(s, gains[q]),
        }
        for q in range(N)
        for s in planted.strengths
    ]  # fmt: skip


def headline_row(planted: Planted, samples: pd.DataFrame) -> dict[str, Any]:
    costs = [planted.kl(s) for s in FORWARD]
    reached = max(costs) >= BUDGET
    kl = min(BUDGET, max(costs))
    strength = float(np.sqrt(kl / planted.cost))
    effect = float(np.interp(strength, FORWARD, [planted.effect(s) for s in FORWARD]))
    table = samples[samples["method"] == planted.method].pivot(
        index="strength", columns="question", values="propensity"
    )
    slopes = steerability(table.to_numpy(), list(table.index))
    slope, anti, unit = slopes.mean(), (slopes <= 0).mean(), (table.loc[1.0] < table.loc[0.0]).mean()
    half = 0.35 if reached else 0.22
    return {
        "family": planted.family, "method": planted.method, "site": site_of(planted.layer),
        "layer": planted.layer, "budget": BUDGET, "reached": reached, "strength": strength, "kl": kl,
        "effect": effect, "effect_low": effect - half, "effect_high": effect + half,
        "n": N, "n_clusters": GROUPS,
        "steerability": slope, "steerability_low": slope - 0.13, "steerability_high": slope + 0.13,
        "anti_slope": anti, "anti_slope_low": max(0.0, anti - 0.03), "anti_slope_high": anti + 0.12,
        "anti_unit": unit, "anti_unit_low": max(0.0, unit - 0.02), "anti_unit_high": unit + 0.15,
        "perplexity_ratio": 1.11, "perplexity_ratio_low": 1.07, "perplexity_ratio_high": 1.16,
        "displacement": 0.08 * strength, "random_low": -0.62, "random_high": 0.58, "random_n": DIRECTIONS,
        "random_reached": DIRECTIONS, "z": (effect - 0.01) / 0.33, "n_tried": len(LAYERS),
    }  # fmt: skip


def contrast_rows(headline: pd.DataFrame) -> list[dict[str, Any]]:
    rows = headline.set_index("method")
    half = {("ResidualMLP", "MeanShift"): 0.4, ("ResidualMLP", "GaussianTransport"): 0.45}
    pairs = [(later, earlier) for earlier, later in combinations(headline["method"], 2)]
    return [
        {
            "method": a, "reference": b, "difference": (d := rows["effect"][a] - rows["effect"][b]),
            "low": d - half.get((a, b), 0.3), "high": d + half.get((a, b), 0.3), "level": 0.95, "n": N,
            "n_clusters": GROUPS, "p_value": (p := 0.001 if abs(d) > half.get((a, b), 0.3) else 0.4),
            "p_holm": min(1.0, p * len(pairs)), "detectable": 0.42,
        }
        for a, b in pairs
    ]  # fmt: skip


def items_of(samples: pd.DataFrame) -> pd.DataFrame:
    """All of the propensity as the positive continuation's, the negative one being certain."""
    found = samples.rename(columns={"method": "arm", "propensity": "positive"})
    return found.assign(role="method", negative=0.0, n_positive=1.0, n_negative=1.0)[list(ITEM_COLUMNS)]


def generations() -> tuple[Generation, ...]:
    prompts = ("What do you think of the new library?", "Tell me about your morning.")
    written = {
        "MeanShift": "Honestly it is wonderful: bright rooms, kind people, and I could stay there all day.",
        "DirectionalAblation": "It is a building with books. I have been there twice.",
        "GaussianTransport": "I am delighted with it; the reading room is a joy.",
        "ResidualMLP": "wonderful wonderful! So happy happy, the best best library in the whole world!!",
    }
    plain = "It opened in May. It has three floors and closes at six.\nParking is difficult."
    rows = []
    for prompt in prompts:
        rows.append(Generation(prompt, "unsteered", -1, 0.0, plain))
        rows += [Generation(prompt, m.method, m.layer, 1.4, written[m.method]) for m in METHODS]
    return tuple(rows)


def provenance() -> Provenance:
    return Provenance(
        question="Do affine and learned maps move sentiment further than a mean shift at equal side effects?",
        model={
            "name": "HuggingFaceTB/SmolLM2-135M-Instruct",
            "revision": "12fd25f77366fa6b3b4b768ec3050bf629380bac",
            "layers": 30, "width": 576, "dtype": "float32", "device": "cpu", "bos": True,
        },
        concept={
            "name": "sentiment", "description": "Positive against negative answers to everyday questions.",
            "source": "steerlens/concepts/data/sentiment.jsonl", "licence": "CC0-1.0",
            "fingerprint": "7f3c9a4e0b1d2c5f", "pairs": {"fit": 160, "select": 40, "test": 40},
            "groups": {"fit": 48, "select": 12, "test": 12},
        },
        settings={
            "sites": [site_of(x) for x in LAYERS], "strengths": list(BOTH), "budget": BUDGET, "seed": 0,
            "random_directions": DIRECTIONS, "tokens": "FromIndex(-1)",
        },
        command="steerlens compare --model HuggingFaceTB/SmolLM2-135M-Instruct --concept sentiment "
        "--layers 8,14,20 --budget 0.1 --seed 0 --out steerlens-compare",
        environment={
            "steerlens": "0.1.0", "torch": "2.13.0", "transformer_lens": "4.3.0", "python": "3.11.2",
            "date": "2026-11-21", "machine": "x86_64, 2 cores", "seconds": 412.7,
        },
    )  # fmt: skip


def make_comparison(seed: int = 0) -> Comparison:
    """The same comparison for the same seed, to the last digit."""
    rng = np.random.default_rng(seed)
    records = [row for planted in METHODS for row in method_rows(planted, rng)] + random_rows(rng)
    rows = [row for planted in METHODS for row in sample_rows(planted, rng)]
    samples = pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS))
    headline = pd.DataFrame([headline_row(m, samples) for m in METHODS], columns=list(HEADLINE_COLUMNS))
    return Comparison(
        provenance=provenance(),
        records=pd.DataFrame(records, columns=list(RECORD_COLUMNS)),
        headline=headline,
        contrasts=pd.DataFrame(contrast_rows(headline), columns=list(CONTRAST_COLUMNS)),
        items=items_of(samples),
        texts=pd.DataFrame(columns=list(TEXT_COLUMNS)),
        generations=generations(),
    )
