"""Shares of variance of slopes that were planted, and factors that were not."""

from collections.abc import Hashable, Sequence

import numpy as np
import pytest

from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import VarianceDecomposition, variance_decomposition
from steerlens.evaluation._spurious import _deals, _Regression


def decomposed(
    y: np.ndarray, factors: dict[str, Sequence[Hashable]], groups: Sequence[Hashable] | None = None
) -> VarianceDecomposition:
    return variance_decomposition(y, factors, range(len(y)) if groups is None else groups, seed=0)


def letters(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(["A", "B"], n)


@pytest.mark.slow
def test_a_planted_share_is_found_and_factors_without_one_are_not():
    rng = np.random.default_rng(0)
    n = 240
    letter, words = letters(n, 1), rng.choice(["yes", "no"], size=(5, n))
    y = rng.normal(size=n) + np.where(letter == "A", 1.0, -1.0)  # half of the variance
    found = decomposed(y, {"letter": letter.tolist()} | {f"word {i}": w.tolist() for i, w in enumerate(words)})
    of_letter, *of_words = found.factors
    assert (of_letter.name, of_letter.n_levels) == ("letter", 2)
    assert of_letter.marginal.low < 0.5 < of_letter.marginal.high
    assert of_letter.p_value < 0.01
    assert found.total.low < 0.5 < found.total.high
    assert np.mean([f.marginal.value for f in of_words]) == pytest.approx(0, abs=0.01)
    assert sum(f.p_value <= 0.05 for f in of_words) <= 1


def test_the_published_shares_are_differences_of_r_squared():
    import statsmodels.api as sm

    rng = np.random.default_rng(0)
    n = 80
    letter, length = letters(n, 1), rng.integers(0, 3, n)
    y = rng.normal(size=n) + (letter == "A") + 0.3 * length
    a, b = (letter == "B").astype(float), np.stack([length == 1, length == 2]).astype(float).T
    r2 = [sm.OLS(y, sm.add_constant(x)).fit() for x in (np.column_stack([a, b]), a, b)]
    found = decomposed(y, {"letter": letter.tolist(), "length": length.tolist()})
    assert found.published == pytest.approx(r2[0].rsquared)
    assert found.factors[0].published == pytest.approx(r2[0].rsquared - r2[2].rsquared)
    assert found.factors[1].published == pytest.approx(r2[0].rsquared - r2[1].rsquared)
    # With rows of their own the correction for chance is the adjusted R², up to the dealings.
    assert found.total.value == pytest.approx(r2[0].rsquared_adj, abs=0.01)
    assert found.factors[0].alone.value == pytest.approx(r2[1].rsquared_adj, abs=0.01)


def test_weights_count_rows_as_often_as_they_say():
    """R² of weighted rows is R² of the rows written out, with a level that no row is left of."""
    rng = np.random.default_rng(0)
    y, x = rng.normal(size=30), np.eye(4)[rng.integers(0, 4, 30)][:, 1:]
    w = rng.integers(0, 3, size=30) * (x[:, 0] == 0)
    weighted = _Regression(y, [x]).r2(w[None].astype(float))[0]
    assert weighted == pytest.approx(_Regression(np.repeat(y, w), [np.repeat(x, w, axis=0)]).plain)
    assert _Regression(y, [x]).r2(np.ones((1, 30)))[0] == pytest.approx(_Regression(y, [x]).plain)


@pytest.mark.slow
def test_many_levels_explain_by_chance_and_not_after_correction():
    """Ten levels of 60 questions explain 9/59 of nothing."""
    found = [
        decomposed(np.random.default_rng(s).normal(size=60), {"template": (np.arange(60) % 10).tolist()})
        for s in range(12)
    ]
    assert np.mean([f.published for f in found]) == pytest.approx(9 / 59, abs=0.05)
    assert np.mean([f.factors[0].permuted for f in found]) == pytest.approx(9 / 59, abs=0.01)
    assert np.mean([f.total.value for f in found]) == pytest.approx(0, abs=0.05)


def test_factors_that_tell_the_same_have_no_share_of_their_own():
    letter = letters(100, 0)
    y = np.random.default_rng(1).normal(size=100) + 2 * (letter == "A")
    twin = np.where(letter == "A", "left", "right")
    found = decomposed(y, {"letter": letter.tolist(), "side": twin.tolist()})
    for f in found.factors:
        assert f.published == pytest.approx(0, abs=1e-9)
        assert f.alone.low > 0.2
    assert found.total.low > 0.2


@pytest.mark.slow
def test_a_factor_of_groups_is_dealt_from_group_to_group():
    """Slopes and template are of the group, and have nothing to do with each other: rows would reject far too often."""
    rejected = {"groups": 0, "rows": 0}
    for seed in range(25):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(16), 10)
        template = rng.permutation(np.arange(16) % 2)[groups].tolist()
        y = rng.normal(size=16)[groups] + 0.3 * rng.normal(size=160)
        rejected["groups"] += decomposed(y, {"template": template}, groups.tolist()).factors[0].p_value <= 0.05
        rejected["rows"] += decomposed(y, {"template": template}).factors[0].p_value <= 0.05
    assert rejected["groups"] <= 5  # Binomial(25, .05) is above 5 once in a thousand
    assert rejected["rows"] >= 10


def test_dealing_keeps_groups_together():
    groups, values = list("aabbccdd"), list("xxyyzzww")
    for p in _deals(values, groups, np.random.default_rng(0))[:20]:
        dealt = np.array(values)[p]
        assert (dealt[::2] == dealt[1::2]).all()
        assert sorted(dealt) == sorted(values)
    broken = [np.array(list("xyxyxyxy"))[p] for p in _deals(list("xyxyxyxy"), groups, np.random.default_rng(0))]
    assert any((d[::2] == d[1::2]).any() for d in broken)


@pytest.mark.parametrize(
    ("factors", "match"),
    [({}, "at least one factor"), ({"letter": list("ABAB")}, "for each of 8 questions, but has 4"),
     ({"letter": ["A"] * 8}, "has 1 values"), ({"length": list(range(8))}, "has 8 values over 8 questions")],
)  # fmt: skip
def test_a_factor_must_be_able_to_explain(factors, match):
    with pytest.raises(OptionError, match=match):
        decomposed(np.arange(8.0), factors)


def test_slopes_must_be_finite_and_vary():
    with pytest.raises(EstimateError, match="finite slopes that vary"):
        decomposed(np.ones(8), {"letter": list("ABABABAB")})
    with pytest.raises(EstimateError, match="finite slopes that vary"):
        decomposed(np.array([np.nan, *range(7)]), {"letter": list("ABABABAB")})
    with pytest.raises(OptionError, match="a group for each"):
        decomposed(np.arange(8.0), {"letter": list("ABABABAB")}, range(7))


def test_a_decomposition_prints_what_chance_would_give():
    y = np.random.default_rng(0).normal(size=40)
    text = str(decomposed(y, {"letter": letters(40, 1).tolist()}))
    assert "40 questions in 40 groups" in text
    assert "by chance" in text
