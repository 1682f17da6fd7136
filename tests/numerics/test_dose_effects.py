"""A balanced factorial with planted effects, and the same numbers from statsmodels' mixed model."""

import itertools

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics import DoseEffects, dose_effects

DOSES, CONTEXTS = (0.0, 0.5, 1.0, 2.0), (0.0, 1.0, 3.0)
FORMAT_SLOPES = np.array([0.6, 0.0, -0.6])
LAYER_SLOPES = np.array([0.2, -0.2])
FORMAT_LEVELS = np.array([1.0, -0.5, -0.5])


def planted(
    n: int, *, seed: int, interaction: float = 1.0, noise: float = 0.3, dose: float = 1.5
) -> npt.NDArray[np.float64]:
    """Shape (word, format, context, layer, dose), with an intercept of its own for every word."""
    draw = np.random.default_rng(seed)
    s, c = np.array(DOSES), np.array(CONTEXTS) - np.mean(CONTEXTS)
    slope = (
        dose
        + interaction * FORMAT_SLOPES[:, None, None, None]
        - 0.25 * interaction * c[None, :, None, None]
        + LAYER_SLOPES[None, None, :, None]
    )
    level = FORMAT_LEVELS[:, None, None, None] - 0.4 * c[None, :, None, None]
    clean = level + slope * s
    return clean + 3 * draw.normal(size=(n, 1, 1, 1, 1)) + noise * draw.normal(size=(n, 3, 3, 2, 4))


def found_in(values: npt.NDArray[np.float64], seed: int = 0) -> DoseEffects:
    return dose_effects(values, doses=DOSES, contexts=CONTEXTS, clusters=list(range(len(values))), seed=seed)


def test_planted_effects_and_interactions_are_recovered_without_noise():
    found = found_in(planted(6, seed=0, noise=0.0))
    for term, wanted in (
        ("dose", [1.5]),
        ("format", FORMAT_LEVELS),
        ("format × dose", FORMAT_SLOPES),
        ("context", [-0.4]),
        ("context × dose", [-0.25]),
        ("layer", [0.0, 0.0]),
        ("layer × dose", LAYER_SLOPES),
        ("format × context × dose", [0.0, 0.0, 0.0]),
    ):
        np.testing.assert_allclose([e.value for e in found.of(term)], wanted, atol=1e-10, err_msg=term)
    assert found.format_share is not None
    assert found.context_share is not None
    np.testing.assert_allclose(found.format_share.value, np.sqrt(0.24) / 1.5)
    np.testing.assert_allclose(found.context_share.value, 0.75 / 1.5)


@pytest.mark.slow
def test_a_mixed_model_with_an_intercept_per_word_gives_the_same_coefficients():
    import statsmodels.formula.api as smf

    values = planted(8, seed=1)
    rows = [
        (w, f, CONTEXTS[c] - np.mean(CONTEXTS), j, DOSES[s], values[w, f, c, j, s])
        for w, f, c, j, s in itertools.product(*map(range, values.shape))
    ]
    frame = pd.DataFrame(rows, columns=["word", "fmt", "context", "layer", "dose", "y"])
    formula = "y ~ (C(fmt, Sum) * context + C(layer, Sum)) * dose"
    fitted = smf.mixedlm(formula, frame, groups="word").fit().fe_params
    found = found_in(values)
    for term, level, name in (
        ("dose", 0, "dose"),
        ("format", 0, "C(fmt, Sum)[S.0]"),
        ("format × dose", 1, "C(fmt, Sum)[S.1]:dose"),
        ("context", 0, "context"),
        ("context × dose", 0, "context:dose"),
        ("layer × dose", 0, "C(layer, Sum)[S.0]:dose"),
        ("format × context × dose", 0, "C(fmt, Sum)[S.0]:context:dose"),
    ):
        np.testing.assert_allclose(found.of(term)[level].value, fitted[name], atol=1e-8, err_msg=term)


def test_intercepts_of_words_change_no_effect():
    values = planted(8, seed=2)
    moved = values + 100 * np.arange(8)[:, None, None, None, None]
    for a, b in zip(found_in(values).effects, found_in(moved).effects, strict=True):
        np.testing.assert_allclose(a.estimate.value, b.estimate.value, atol=1e-9)


def test_where_nothing_interacts_the_share_reaches_0_and_where_something_does_it_does_not():
    shares = [found_in(planted(20, seed=k, interaction=0.0, noise=1.0)) for k in range(12)]
    clear = [s.format_share for s in shares if s.format_share and s.format_share.low > 0]
    assert len(clear) <= 2
    assert max(s.format_share.value for s in shares if s.format_share) < 0.1
    planted_share = found_in(planted(20, seed=0, noise=1.0)).format_share
    assert planted_share is not None
    assert planted_share.low < np.sqrt(0.24) / 1.5 < planted_share.high
    assert planted_share.low > 0.2


def test_there_is_no_share_of_a_dose_that_does_nothing():
    found = found_in(planted(10, seed=3, dose=0.0, noise=2.0))
    assert not found.of("dose")[0].excludes(0.0)
    assert found.format_share is None
    assert found.context_share is None


def test_one_context_has_no_context_effects():
    found = dose_effects(
        planted(6, seed=0)[:, :, :1], doses=DOSES, contexts=CONTEXTS[:1], clusters=list(range(6)), seed=0
    )
    assert found.of("context") == ()
    assert found.context_share is None
    assert found.format_share is not None


def test_clusters_of_words_widen_the_interval():
    values = np.repeat(planted(8, seed=4, noise=1.0), 3, axis=0)
    together = dose_effects(values, doses=DOSES, contexts=CONTEXTS, clusters=[w // 3 for w in range(24)], seed=0)
    apart = dose_effects(values, doses=DOSES, contexts=CONTEXTS, clusters=list(range(24)), seed=0)
    a, b = together.of("dose")[0], apart.of("dose")[0]
    assert a.high - a.low > 1.3 * (b.high - b.low)
    assert together.format_share is not None
    assert apart.format_share is not None
    assert together.format_share.value < apart.format_share.value  # more noise is taken away


def test_what_is_no_factorial_is_refused():
    values = planted(6, seed=0)
    with pytest.raises(OptionError, match="shape \\(word, format, context, layer, dose\\)"):
        dose_effects(values, doses=DOSES[:2], contexts=CONTEXTS, clusters=list(range(6)), seed=0)
    with pytest.raises(OptionError, match="two different doses"):
        dose_effects(values[..., :1], doses=DOSES[:1], contexts=CONTEXTS, clusters=list(range(6)), seed=0)
    values[0, 0, 0, 0, 0] = np.nan
    with pytest.raises(EstimateError, match="missing"):
        found_in(values)
