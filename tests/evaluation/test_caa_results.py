"""Published result files: read, refused where broken, and measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from steerlens.errors import ArtefactError, OptionError
from steerlens.evaluation import option_mass, propensity_report, read_caa_results, steerability, variance_decomposition

VARIANT = "use_base_model=False_model_size=7b"
GRID = (-1.0, -0.5, 0.0, 0.5, 1.0)


def file_name(multiplier: float, *, layer: int = 13, behavior: str = "being-kind", variant: str = VARIANT) -> str:
    return f"results_layer={layer}_multiplier={multiplier}_behavior={behavior}_type=ab_{variant}.json"


def records(log_odds: np.ndarray, letters: list[str], mass: float = 0.95) -> list[dict]:
    """Answers whose propensities are these log-odds."""
    out = []
    for i, (x, letter) in enumerate(zip(log_odds, letters, strict=True)):
        p = mass / (1 + np.exp(-x))
        match, other = f"({letter})", "(B)" if letter == "A" else "(A)"
        out.append(
            {
                "question": f"Question {i}?\n\nChoices:\n (A) Yes\n (B) No",
                "answer_matching_behavior": match,
                "answer_not_matching_behavior": other,
                "a_prob": p if letter == "A" else mass - p,
                "b_prob": mass - p if letter == "A" else p,
            }
        )
    return out


def write(folder: Path, slopes: np.ndarray, letters: list[str], grid=GRID, **name) -> Path:
    start = np.linspace(-1, 1, len(slopes))
    for s in grid:
        of_s = records(start + s * slopes, letters, mass=0.95 - 0.1 * abs(s))
        (folder / file_name(s, **name)).write_text(json.dumps(of_s), "utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path, np.linspace(-1, 3, 12), list("AB" * 6))


def test_propensities_letters_and_mass_are_those_of_the_files(folder: Path):
    found = read_caa_results(folder)
    assert (found.behavior, found.layer, found.variant) == ("being-kind", 13, VARIANT)
    assert found.strengths == GRID
    assert found.letters == tuple("AB" * 6)
    assert found.questions[3].startswith("Question 3?")
    expected = np.linspace(-1, 1, 12) + np.outer(GRID, np.linspace(-1, 3, 12))
    np.testing.assert_allclose(found.propensity, expected, atol=1e-9)
    np.testing.assert_allclose(found.option_mass, np.repeat([[0.85], [0.9], [0.95], [0.9], [0.85]], 12, axis=1))
    np.testing.assert_allclose(steerability(found.propensity, found.strengths), np.linspace(-1, 3, 12), atol=1e-9)


def test_every_metric_reads_the_files(folder: Path):
    found = read_caa_results(folder)
    report = propensity_report(found.propensity, found.strengths, found.questions, seed=0)
    assert report.slope.value == pytest.approx(1.0)
    assert report.anti_steering.naive.value == pytest.approx(3 / 12)
    mass = option_mass(found.log_prob_positive, found.log_prob_negative, found.strengths, found.questions, seed=0)
    assert mass.change[-1].value == pytest.approx(-0.1)


def test_a_letter_that_decides_the_slope_is_seen_and_one_that_does_not_is_not(tmp_path: Path):
    letters = np.random.default_rng(0).choice(["A", "B"], 80)
    noise = np.random.default_rng(1).normal(size=80)
    share = {}
    for name, slopes in (("biased", 1 + 1.5 * (letters == "A") + 0.5 * noise), ("fair", 1 + 0.5 * noise)):
        (tmp_path / name).mkdir()
        found = read_caa_results(write(tmp_path / name, slopes, letters.tolist()))
        of_question = steerability(found.propensity, found.strengths)
        shares = variance_decomposition(of_question, {"letter": found.letters}, found.questions, seed=0)
        share[name] = shares.factors[0]
    assert share["biased"].marginal.low > 0.5
    assert share["fair"].p_value > 0.05
    assert share["fair"].marginal.low < 0.05


def test_a_list_of_files_is_read_as_the_folder_is(folder: Path):
    files = sorted(folder.iterdir(), reverse=True)
    np.testing.assert_array_equal(read_caa_results(files).propensity, read_caa_results(folder).propensity)
    assert read_caa_results(files[0]).strengths in {(s,) for s in GRID}


def test_files_of_other_types_are_left_aside_in_a_folder_and_refused_by_name(folder: Path):
    other = folder / file_name(1.0).replace("type=ab", "type=open_ended")
    other.write_text("[]", "utf-8")
    assert read_caa_results(folder).strengths == GRID
    with pytest.raises(OptionError, match="not the name of a result file"):
        read_caa_results([other])


def test_several_layers_or_variants_must_be_chosen_from(folder: Path):
    slopes, letters = np.linspace(0, 1, 12), list("AB" * 6)
    write(folder, slopes, letters, layer=20)
    prompted = "system_prompt=neg_" + VARIANT
    write(folder, slopes, letters, variant=prompted)
    with pytest.raises(OptionError, match=r"2 values of layer: \['13', '20'\]. Choose one with layer="):
        read_caa_results(folder)
    with pytest.raises(OptionError, match="2 values of variant"):
        read_caa_results(folder, layer=13)
    assert read_caa_results(folder, layer=20).layer == 20
    chosen = read_caa_results(folder, layer=13, variant=prompted)
    np.testing.assert_allclose(steerability(chosen.propensity, chosen.strengths), slopes, atol=1e-9)
    write(folder, slopes, letters, behavior="being-rude")
    with pytest.raises(OptionError, match="2 values of behavior"):
        read_caa_results(folder, layer=13, variant=VARIANT)
    with pytest.raises(OptionError, match="None of 20 result files has layer 7"):
        read_caa_results(folder, layer=7)


def test_a_multiplier_written_twice_is_refused(folder: Path):
    twice = folder / file_name(1.0).replace("multiplier=1.0", "multiplier=1")
    twice.write_bytes((folder / file_name(1.0)).read_bytes())
    with pytest.raises(ArtefactError, match="both have multiplier 1"):
        read_caa_results(folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda r: r.pop("b_prob"), "answer 2 lacks b_prob"),
        (lambda r: r.update(a_prob=float("nan")), "a_prob should be a probability between 0 and 1, but is nan"),
        (lambda r: r.update(a_prob=1.2), "a_prob should be a probability between 0 and 1, but is 1.2"),
        (lambda r: r.update(b_prob=-0.1), "b_prob should be a probability"),
        (lambda r: r.update(b_prob="0.3"), "b_prob should be a probability between 0 and 1, but is '0.3'"),
        (lambda r: r.update(a_prob=True), "a_prob should be a probability"),
        (lambda r: r.update(a_prob=0.9, b_prob=0.3), "add up to 1.2"),
        (lambda r: r.update(answer_matching_behavior="(C)"), r"should have the answers '\(A\)' and '\(B\)'"),
        (lambda r: r.update(answer_matching_behavior=r["answer_not_matching_behavior"]), "should have the answers"),
        (lambda r: r.update(question="Another?"), "asks other questions than .*12 and 12, of which 11 agree"),
    ],
)
def test_a_broken_answer_is_refused_with_its_place(folder: Path, change, match: str):
    path = folder / file_name(0.5)
    content = json.loads(path.read_text("utf-8"))
    change(content[2])
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ArtefactError, match=match):
        read_caa_results(folder)


@pytest.mark.parametrize("content", ["{", "", "{}", "[]", "[3]", "\xff"])
def test_a_file_that_is_no_list_of_answers_is_refused(folder: Path, content: str):
    (folder / file_name(0.5)).write_bytes(content.encode("latin-1"))
    with pytest.raises(ArtefactError, match=r"multiplier=0\.5"):
        read_caa_results(folder)


def test_a_question_with_probability_zero_is_left_out_everywhere_and_named(folder: Path):
    """Half precision rounds to it; its log-odds would be infinite."""
    whole = read_caa_results(folder)
    path = folder / file_name(0.5)
    content = json.loads(path.read_text("utf-8"))
    content[2]["a_prob"] = 0.0
    path.write_text(json.dumps(content), "utf-8")
    found = read_caa_results(folder)
    assert whole.left_out == ()
    assert found.left_out == (whole.questions[2],)
    assert found.questions == whole.questions[:2] + whole.questions[3:]
    np.testing.assert_array_equal(found.propensity, np.delete(whole.propensity, 2, axis=1))
    for answer in content:
        answer["a_prob"] = 0.0
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ArtefactError, match="each has a letter with probability 0"):
        read_caa_results(folder)


def test_questions_in_another_order_are_other_questions(folder: Path):
    path = folder / file_name(0.5)
    path.write_text(json.dumps(json.loads(path.read_text("utf-8"))[::-1]), "utf-8")
    with pytest.raises(ArtefactError, match="asks other questions"):
        read_caa_results(folder)


def test_a_folder_without_results_says_what_was_expected(tmp_path: Path):
    with pytest.raises(OptionError, match="no result file of A/B questions"):
        read_caa_results(tmp_path)
    with pytest.raises(OptionError, match="does not exist"):
        read_caa_results(tmp_path / "nowhere")
    with pytest.raises(OptionError, match="empty list"):
        read_caa_results([])
