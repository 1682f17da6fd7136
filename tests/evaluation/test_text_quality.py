"""Quality of texts against counts by hand, and PNES against curves whose answer is known."""

import math
import zlib

import numpy as np
import pytest

from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import pnes, text_quality, text_quality_change

VARIED = (
    "The robin sings in the garden while rain falls on old walls.",
    "Salt dissolves in water, and sugar does so faster when it is warm.",
    "A library lends books to everybody who has a card.",
    "Nobody knew why the clock had stopped at seven that morning.",
    "Trains leave for the coast twice a day in summer.",
)
LOOP = "very good very good very good very good very good very good"


def prompts(*texts: str, n: int = 5) -> dict[str, list[str]]:
    return {f"prompt {i}": list(texts) for i in range(n)}


def test_counts_are_those_by_hand():
    found = text_quality(prompts("a b a b a b", "c"), seed=0)
    # Of the first text: words a b a b a b; of both together 3 of 7 words differ, 2 of 5 pairs, 2 of 4 triples.
    assert found.distinct[1].value == pytest.approx(3 / 7)
    assert found.distinct[2].value == pytest.approx(2 / 5)
    assert found.distinct[3].value == pytest.approx(2 / 4)
    # abab, baba, abab: one of three 4-grams was there before; "c" has none.
    assert found.repetition.value == pytest.approx(1 / 3)
    assert found.words.value == pytest.approx(3.5)
    expected = (len(zlib.compress(b"a b a b a b", 9)) + len(zlib.compress(b"c", 9))) / 12
    assert found.zlib_ratio.value == pytest.approx(expected)
    assert found.empty.value == 0
    assert "distinct-1" in str(found)


def test_repetition_and_variety_are_told_apart():
    """One text many times is not repetition within a text; a loop is; varied texts are neither."""
    varied = text_quality({f"p{i}": [t] for i, t in enumerate(VARIED)}, seed=0)
    looping = text_quality(prompts(LOOP), seed=0)
    alike = text_quality(prompts(*[VARIED[0]] * 4), seed=0)
    assert varied.repetition.value == alike.repetition.value == 0
    assert looping.repetition.value > 0.7
    assert alike.distinct[2].value == pytest.approx(1 / 4)
    assert varied.distinct[2].value == 1
    assert looping.zlib_ratio.value < 0.5 < varied.zlib_ratio.value


def test_case_is_ignored_and_marks_are_words():
    found = text_quality(prompts("Well, well!"), seed=0)
    assert found.words.value == 4
    assert found.distinct[1].value == pytest.approx(3 / 4)


def test_intervals_are_over_prompts_and_do_not_depend_on_their_order():
    texts = {f"p{i}": [t, LOOP[: 10 * i]] for i, t in enumerate(VARIED)}
    found = text_quality(texts, seed=0)
    assert (found.words.n, found.words.n_clusters) == (5, 5)
    assert found.words.low < found.words.value < found.words.high
    assert text_quality(dict(reversed(texts.items())), seed=0) == found


def test_changes_are_paired():
    plain = {f"p{i}": [t] for i, t in enumerate(VARIED)}
    looped = {p: [LOOP] for p in plain}
    found = text_quality_change(looped, plain, seed=0)
    assert found.repetition.low > 0.5
    assert found.zlib_ratio.high < 0
    expected = text_quality(looped, seed=0).words.value - text_quality(plain, seed=0).words.value
    assert found.words.value == pytest.approx(expected)
    same = text_quality_change(plain, dict(reversed(plain.items())), seed=0)
    assert (same.words.value, same.words.low, same.words.high) == (0, 0, 0)


def test_empty_texts_are_counted_and_break_nothing():
    found = text_quality({f"p{i}": [t, ""] for i, t in enumerate(VARIED)}, seed=0)
    whole = text_quality({f"p{i}": [t] for i, t in enumerate(VARIED)}, seed=0)
    assert found.empty.value == 0.5
    assert found.distinct == whole.distinct
    assert found.zlib_ratio == whole.zlib_ratio


def test_prompts_without_a_text_long_enough_do_not_count():
    long = {f"p{i}": [LOOP[: 20 + 8 * i]] for i in range(5)}
    short = {f"q{i}": ["two words"] for i in range(10)}
    found, alone = text_quality({**long, **short}, seed=0), text_quality(long, seed=0)
    assert found.repetition == alone.repetition
    assert found.distinct[3] == alone.distinct[3]
    assert (found.repetition.n, found.words.n) == (5, 15)
    # A difference is paired: what is long enough on one side alone is left out of both.
    change = text_quality_change({**long, **short}, {**long, **{p: [LOOP] for p in short}}, seed=0)
    assert (change.repetition.value, change.repetition.n) == (0, 5)
    assert change.words.value < 0
    few = {p: t for p, t in {**long, **short}.items() if p != "p4"}
    with pytest.raises(EstimateError, match=r"at least 5 prompts .* 'distinct-3', but got 4 of 14"):
        text_quality(few, seed=0)


def test_what_cannot_be_said_is_an_error():
    with pytest.raises(EstimateError, match="long enough for 'distinct-3'"):
        text_quality(prompts("two words"), seed=0)
    with pytest.raises(EstimateError, match="long enough for 'distinct-1'"):
        text_quality(prompts(""), seed=0)
    with pytest.raises(EstimateError, match="at least 5"):
        text_quality(prompts(LOOP, n=4), seed=0)
    with pytest.raises(OptionError, match="list of texts"):
        text_quality({"p": []}, seed=0)
    with pytest.raises(OptionError, match="list of texts"):
        text_quality({"p": "a string"}, seed=0)
    with pytest.raises(OptionError, match="on one only: 'p'"):
        text_quality_change({"p": ["a"]}, {}, seed=0)


STRENGTHS = np.linspace(-4, 4, 17)


def curve(slope: float, growth: float, base: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    """Effects and perplexities that follow the model exactly: eff = tanh(slope·s), ppl = base·exp(growth·s²)."""
    return 0.5 + np.tanh(slope * STRENGTHS), base * np.exp(growth * STRENGTHS**2)


@pytest.mark.parametrize(("slope", "growth"), [(0.5, 0.05), (-0.8, 0.1), (2.0, 0.0), (0.05, 0.02), (6.0, 0.3)])
def test_pnes_finds_the_curve_it_was_made_from(slope: float, growth: float):
    found = pnes(STRENGTHS.tolist(), *curve(slope, growth))
    assert found.growth == pytest.approx(growth, abs=1e-9)
    assert found.slope == pytest.approx(slope, rel=1e-3)
    assert found.offset == pytest.approx(0, abs=1e-5)
    assert found.residual < 1e-5
    fine = np.linspace(-4, 4, 100_001)
    expected = np.ptp(np.tanh(slope * fine) * np.exp(-growth * fine**2))
    assert found.value == pytest.approx(expected, rel=1e-3)


def test_an_effect_that_costs_more_counts_less_and_no_effect_for_nothing():
    cheap, dear = (pnes(STRENGTHS.tolist(), *curve(0.8, g)).value for g in (0.01, 0.3))
    assert cheap > 1.5 * dear
    assert pnes(STRENGTHS.tolist(), np.full(17, 0.3), curve(1, 0.1)[1]).value == pytest.approx(0, abs=1e-6)


def test_strengths_at_which_the_model_breaks_do_not_enter_the_growth():
    effect, perplexity = curve(0.5, 0.05)
    broken = perplexity.copy()
    broken[[0, -1]] = 5000.0
    assert pnes(STRENGTHS.tolist(), effect, broken).growth == pytest.approx(0.05)
    broken[[0, -1]] = 1900.0
    assert pnes(STRENGTHS.tolist(), effect, broken).growth > 0.1


def test_usable_strengths_are_those_below_ten():
    found = pnes(STRENGTHS.tolist(), *curve(0.5, 0.05))
    last = math.sqrt(math.log(10 / 8) / 0.05)
    assert found.usable == (-2.0, 2.0)
    assert 2.0 < last < 2.5
    assert pnes(STRENGTHS.tolist(), *curve(0.5, 0.05, base=20.0)).usable is None


def test_a_curve_of_another_shape_leaves_a_residual():
    """An even effect has no tanh; the number then means nothing, and the residual says so."""
    _, perplexity = curve(0.5, 0.02)
    found = pnes(STRENGTHS.tolist(), 0.3 * np.cos(2 * STRENGTHS), perplexity)
    assert found.residual > 0.1


@pytest.mark.parametrize(
    ("strengths", "effect", "perplexity", "error", "message"),
    [
        ([0, 1, 2, 3], [0.0] * 4, [5.0] * 4, OptionError, "at least four others"),
        ([1, 2, 3, 4, 5], [0.0] * 5, [5.0] * 5, OptionError, "with one 0"),
        ([0, 0, 1, 2, 3], [0.0] * 5, [5.0] * 5, OptionError, "with one 0"),
        ([0, 1, 2, 3, 4], [0.0] * 4, [5.0] * 5, OptionError, "one effect"),
        ([0, 1, 2, 3, 4], [0.0, math.nan, 0, 0, 0], [5.0] * 5, EstimateError, "finite effects"),
        ([0, 1, 2, 3, 4], [0.0] * 5, [5.0, 0.5, 5, 5, 5], EstimateError, "1 or more"),
        ([0, 1, 2, 3, 4], [0.0] * 5, [5.0, 3e3, 3e3, 3e3, 3e3], EstimateError, "smaller strengths"),
    ],
)
def test_pnes_refuses_what_it_cannot_fit(strengths, effect, perplexity, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        pnes([float(s) for s in strengths], effect, perplexity)
