"""Verdicts on planted geometry itself: maps are fitted, rows are moved, and the answer is known."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch

from steerlens.concepts import Plant, planted
from steerlens.evaluation import planted_table
from steerlens.maps import (
    ClassifierGradient,
    GaussianTransport,
    MeanShift,
    NormRestoredShift,
    RandomShift,
    ResidualMLP,
    SphericalSteering,
    SteeringMethod,
    StrengthGate,
    Training,
    method_name,
)
from steerlens.maps._classifier import GradientMap
from steerlens.theories import (
    AffineOptimality,
    ClassifierSuccess,
    LinearRepresentation,
    LocalDirection,
    NormsDoNotMatter,
    Outcome,
    records_of,
    rows_of,
    tidy,
)

pytestmark = pytest.mark.slow
CONCEPTS, N = 5, 400


QUICK = Training(steps=200, learning_rate=5e-3, batch_size=128)
NETWORK, GATE = ResidualMLP(hidden=(32, 32), training=QUICK), StrengthGate(hidden=(32, 32), training=QUICK)


def plants(*names: str, **options: float) -> list[Plant]:
    """Five concepts: the same law in rotations of their own; several names take turns."""
    return [planted(names[i % len(names)], width=8, seed=i, **options) for i in range(CONCEPTS)]


def effects(concepts: list[Plant], method: SteeringMethod) -> np.ndarray:
    """Mean true effect and its standard error on held-out rows, shape (concepts, 2)."""
    out = []
    for i, plant in enumerate(concepts):
        source, target = plant.sample(N, seed=10 * i).source, plant.sample(N, seed=10 * i + 1).target
        rows = plant.sample(N, seed=10 * i + 2).source
        effect = plant.effect(rows, method.fit(source, target)(rows)).numpy()
        out.append((effect.mean(), effect.std(ddof=1) / np.sqrt(N)))
    return np.array(out)


def arm(found: np.ndarray, method: SteeringMethod, quantity: str = "effect_at_budget", **columns: object) -> dict:
    half = 1.96 * found[:, 1]
    block = rows_of(quantity, found[:, 0], role="method", method=method_name(method), **columns)
    return block | {"low": found[:, 0] - half, "high": found[:, 0] + half, "level": 0.95}


def randoms(concepts: list[Plant], n: int = 5) -> dict:
    found = np.stack([effects(concepts, RandomShift(seed=i))[:, 0] for i in range(n)], axis=1)
    return rows_of("effect_at_budget", found, "seed", role="random", method="random")


def bures(plant: Plant, i: int) -> float:
    """The covariance term of transport, in standard deviations over permuted labels."""
    x, y = (s.double().numpy() for s in (plant.sample(N, seed=10 * i).source, plant.sample(N, seed=10 * i + 1).target))

    def term(a: np.ndarray, b: np.ndarray) -> float:
        A, B = np.cov(a.T), np.cov(b.T)
        return float(np.trace(A + B) - 2 * np.sqrt(np.abs(np.linalg.eigvals(A @ B))).sum())

    rng, both = np.random.default_rng(i), np.concatenate([x - x.mean(0), y - y.mean(0)])
    null = []
    for _ in range(40):
        order = rng.permutation(len(both))
        null.append(term(both[order[:N]], both[order[N:]]))
    return (term(x, y) - np.mean(null)) / np.std(null, ddof=1)


def ladder(concepts: list[Plant], *, gap_quadratic: float, gap_high: float, local: float) -> pd.DataFrame:
    """Measured effects of three rungs. Bits and local direction are those of the laws; see docs/planted.md."""
    shift, transport, network = (effects(concepts, m) for m in (MeanShift(), GaussianTransport(), NETWORK))
    gain = np.column_stack([network[:, 0] - shift[:, 0], np.hypot(network[:, 1], shift[:, 1])])
    rng = np.random.default_rng(0)
    return tidy(
        arm(shift, MeanShift()),
        arm(transport, GaussianTransport()),
        arm(network, NETWORK),
        arm(gain, NETWORK, "gain", setting="MeanShift"),
        randoms(concepts),
        rows_of("bures", [bures(p, i) for i, p in enumerate(concepts)]),
        *(
            rows_of(q, x + rng.normal(0, 0.01, CONCEPTS))
            for q, x in (("gap_quadratic", gap_quadratic), ("gap_high", gap_high), ("local", local))
        ),
    )


SMALL = {"min_units": 5}
T1 = LinearRepresentation(**SMALL, network=method_name(NETWORK))
T2 = AffineOptimality(**SMALL, network=method_name(NETWORK))


def test_a_direction_supports_linear_representation_but_for_its_few_concepts():
    """With five concepts Wilson's interval of none in five reaches 0.43: only the count keeps it from support."""
    records = ladder(plants("linear"), gap_quadratic=0.0, gap_high=0.0, local=0.0)
    verdict = T1.judge(records)
    assert verdict.outcome is Outcome.INCONCLUSIVE, str(verdict)
    assert verdict.evidence is not None
    held = {p.name: p.fulfilled(verdict.evidence.estimates[p.name]) for p in T1.predictions}
    assert held == {name: name != "share" for name in held}, str(verdict)
    assert LinearRepresentation(**SMALL, network=method_name(NETWORK), share=0.5).judge(records).outcome is (
        Outcome.SUPPORTED
    )


def test_xor_refutes_linear_representation_and_not_affine_optimality():
    records = ladder(plants("xor2"), gap_quadratic=0.9, gap_high=0.0, local=0.5)
    assert T1.judge(records).outcome is Outcome.REFUTED
    assert T2.judge(records).outcome is not Outcome.REFUTED


def test_covariances_support_affine_optimality():
    verdict = T2.judge(ladder(plants("onion3", "gauss2"), gap_quadratic=0.8, gap_high=0.0, local=0.3))
    assert verdict.outcome is Outcome.SUPPORTED, str(verdict)


def test_parity_refutes_affine_optimality():
    verdict = T2.judge(ladder(plants("parity3"), gap_quadratic=0.0, gap_high=0.9, local=0.3))
    assert verdict.outcome is Outcome.REFUTED, str(verdict)


def with_errors(block: dict[str, Any], errors: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Rows with intervals of 95 % of these standard errors."""
    half = 1.959964 * errors
    return block | {"low": block["value"] - half, "high": block["value"] + half, "level": 0.95}


def test_shells_refute_the_norm_theory_and_a_direction_does_not():
    def study(name: str) -> pd.DataFrame:
        concepts, scaled, norms = plants(name), {}, []
        for i, plant in enumerate(concepts):
            rows, target = plant.sample(N, seed=10 * i + 2).source, plant.sample(N, seed=10 * i + 1).target
            for setting, factor in (("+20 %", 1.2), ("−20 %", 0.8)):
                moved = plant.effect(rows, factor * rows)
                scaled.setdefault(setting, []).append((float(moved.mean()), float(moved.std()) / np.sqrt(N)))
            lengths = torch.stack([target.norm(dim=1), rows.norm(dim=1)]).numpy()
            ratio = lengths[0].mean() / lengths[1].mean() - 1
            error = float(np.hypot(*(lengths.std(axis=1) / lengths.mean(axis=1) / np.sqrt(N))))
            norms.append((ratio, error))
        found = np.array(norms)
        norm = with_errors(rows_of("norm_difference", found[:, 0]), found[:, 1])
        return tidy(
            *(arm(effects(concepts, m), m) for m in (SphericalSteering(), NormRestoredShift(), GaussianTransport())),
            *(
                with_errors(
                    rows_of("effect", np.array(x)[:, 0], role="method", method="NormScaling", setting=s),
                    np.array(x)[:, 1],
                )
                for s, x in scaled.items()
            ),
            randoms(concepts),
            norm,
        )

    theory = NormsDoNotMatter(**SMALL, restored="GaussianTransport")
    assert theory.judge(study("onion3")).outcome is Outcome.REFUTED
    verdict = NormsDoNotMatter(**SMALL).judge(study("linear"))
    assert verdict.outcome is not Outcome.REFUTED, str(verdict)
    assert verdict.outcome is not Outcome.VOID, str(verdict)


def test_in_a_context_no_dose_does_what_a_direction_does():
    context = plants("ctx", pi=0.7)
    records = tidy(
        *(arm(effects(context, m), m) for m in (MeanShift(), GaussianTransport(), NETWORK, GATE)),
        randoms(context),
        rows_of("local", np.linspace(0.4, 0.6, CONCEPTS)),
    )
    theory = LocalDirection(**SMALL, network=method_name(NETWORK), gate=method_name(GATE))
    found = theory.evidence(records, level=0.95).estimates["gate"]
    assert found.high < 0.8, found
    assert theory.judge(records).outcome is not Outcome.REFUTED


def test_a_convinced_classifier_is_not_a_reached_target():
    gradient, transport = ClassifierGradient(), GaussianTransport()
    names = ("linear", "heteroscedastic", "gauss2", "onion3", "cone", "bimodal")
    concepts = [planted(n, width=8) for n in names]
    table = planted_table((gradient, transport), concepts, n=600, n_test=400, n_judge=600)
    own = []
    for fit in table.fits:
        if isinstance(fit.steering_map, GradientMap):
            rows = fit.plant.sample(400, seed=99).source
            own.append(float(fit.steering_map.log_odds(fit.steering_map(rows)).sigmoid().mean()))
    records = tidy(
        records_of(table),
        rows_of("own_p", own, role="method", method=method_name(gradient)) | {"concept": list(names)},
    )
    verdict = ClassifierSuccess(transport=method_name(transport)).judge(records)
    assert verdict.outcome is Outcome.REFUTED, str(verdict)
