"""Trajectories of right and wrong tokens: the last layer is the model's own answer, layer 0 the embedding."""

import numpy as np
import pandas as pd
import pytest
import torch

from steerlens.concepts import ConceptDataset, ContrastivePair, load_concept
from steerlens.errors import ConceptError, EstimateError
from steerlens.evaluation import (
    DOLA_CHOICE_COLUMNS,
    LAYER_CHOICE_COLUMNS,
    TRAJECTORY_COLUMNS,
    DoLaChoice,
    token_trajectories,
)
from steerlens.evaluation import _trajectories as trajectories
from steerlens.evaluation._trajectories import spikes
from steerlens.models import LensModel, load_model, tiny_model
from steerlens.reports import draw_layer_choices, draw_trajectories, prepare_layer_choices, prepare_trajectories

PAIRS = ConceptDataset(
    "made up",
    tuple(
        ContrastivePair(f"Number {k} of the list is", f" {a}", f" {b}", group=str(k))
        for k, (a, b) in enumerate(zip("acegikmo", "bdfhjlnp", strict=True))
    ),
)


@pytest.fixture(params=("gpt2", "llama"), scope="module")
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


@pytest.mark.parametrize("norm", ["final", "none"])
def test_every_layer_is_hugging_faces_hidden_state_read_as_if_it_were_the_last(
    model: LensModel, norm: str, monkeypatch
):
    monkeypatch.setattr(trajectories, "CELLS", 3)
    found = token_trajectories(model, PAIRS, norm=norm, seed=0)
    twin = tiny_model(model.name.removeprefix("tiny-"), dtype="float64")
    head = twin.bridge.original_model.get_output_embeddings().weight
    for i, pair in enumerate(PAIRS):
        ids = [twin.encode(pair.prompt + c) for c in (pair.positive, pair.negative)]
        at = next(k for k, (a, b) in enumerate(zip(*ids, strict=True)) if a != b)
        with torch.no_grad():
            out = twin.bridge.original_model(input_ids=torch.tensor([ids[0][:at]]), output_hidden_states=True)
        for layer in range(model.n_layers + 1):
            if layer == model.n_layers:
                logits = out.logits[0, -1]
            else:
                x = out.hidden_states[layer][0, -1]
                logits = head @ (twin.bridge.ln_final.original_component(x) if norm == "final" else x)
            for side, row in enumerate(ids):
                expected = logits.log_softmax(-1)[row[at]]
                torch.testing.assert_close(found.log_prob[side, i, layer], expected, rtol=1e-9, atol=1e-9)
                assert int(found.rank[side, i, layer]) == int((logits > logits[row[at]]).sum())


def test_the_frame_is_the_mean_over_items(model: LensModel):
    found = token_trajectories(model, PAIRS, seed=0)
    frame = found.to_frame()
    assert tuple(frame.columns) == TRAJECTORY_COLUMNS
    assert len(frame) == 2 * (model.n_layers + 1)
    row = frame[(frame["layer"] == 2) & (frame["token"] == "wrong")].iloc[0]
    assert row["probability"] == pytest.approx(float(found.log_prob[1, :, 2].exp().mean()))
    assert row["log_prob"] == pytest.approx(float(found.log_prob[1, :, 2].mean()))
    assert row["probability_low"] <= row["probability"] <= row["probability_high"]
    assert "rise most at one layer" in str(found)


def test_a_spike_is_the_largest_rise():
    p = torch.tensor([[0.1, 0.1, 0.7, 0.2], [0.9, 0.1, 0.2, 0.5], [0.3, 0.2, 0.1, 0.1], [0.0, 0.5, 0.5, 1.0]])
    assert spikes(p).tolist() == [2, 3, 3, 1]  # of equal rises the first; of falls the smallest


def test_strangers_are_of_other_groups():
    """Item 0 and 1 are one group and rise at layer 2; item 2 rises at 2 (right) and 3 (wrong)."""
    spike = torch.tensor([[2, 2, 2], [2, 2, 3]])
    assert trajectories._strangers(spike, ["a", "a", "b"]).tolist() == [0.0, 0.0, 1.0]


def test_the_positive_continuation_is_right():
    pairs = tuple(ContrastivePair(f"Of {k} the", " yes", " no", group=str(k)) for k in range(6))
    flipped = tuple(ContrastivePair(p.prompt, p.negative, p.positive, group=p.group) for p in pairs)
    model = tiny_model("gpt2", dtype="float64")
    one, other = (token_trajectories(model, ConceptDataset("x", of), seed=0) for of in (pairs, flipped))
    torch.testing.assert_close(one.log_prob, other.log_prob.flip(0))


def test_what_cannot_be_followed_is_refused():
    model = tiny_model("gpt2")
    with pytest.raises(EstimateError, match="at least 5 groups"):
        token_trajectories(model, PAIRS[:4], seed=0)
    beginning = tuple(ContrastivePair(f"Of {k} the", " the", " the film", group=str(k)) for k in range(6))
    with pytest.raises(ConceptError, match="one begins with the other"):
        token_trajectories(model, ConceptDataset("x", beginning), seed=0)


def test_the_figure_shows_the_lines_and_where_tokens_rise(model: LensModel):
    found = token_trajectories(model, PAIRS, seed=0)
    data = prepare_trajectories(found)
    assert [len(panel.lines["right"]) for panel in data.panels] == [model.n_layers + 1] * 3
    assert sum(data.spikes["wrong"]) == pytest.approx(1.0)
    assert data.spikes["right"][1] == pytest.approx(float((found.spike[0] == 2).double().mean()))
    figure = draw_trajectories(found)
    assert len(figure.axes) == 4
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [
        panel["value"].tolist() for panel in data.panels[0].lines.values()
    ]


def test_arms_that_choose_alike_share_a_row_of_the_figure():
    share = [("raw", 0, 0.25), ("raw", 2, 0.75), ("normalised", 0, 0.25), ("normalised", 2, 0.75), ("high", 3, 1.0)]
    choices = pd.DataFrame([(a, j, s, s, s, 40, 8) for a, j, s in share], columns=list(LAYER_CHOICE_COLUMNS))
    found = DoLaChoice(pd.DataFrame(columns=list(DOLA_CHOICE_COLUMNS)), choices, "a model", 4)
    data = prepare_layer_choices(found)
    assert data.arms == ("raw\nnormalised", "high")
    assert data.layers == (0, 2, 3)
    np.testing.assert_array_equal(data.share, [[0.25, 0.75, np.nan], [np.nan, np.nan, 1.0]])
    assert data.modal[0].startswith("mostly layer 2: 75")
    texts = [t.get_text() for t in draw_layer_choices(found).axes[0].texts]
    assert texts[:3] == ["25", "75", "100"]


@pytest.mark.real
@pytest.mark.slow
def test_in_the_demo_model_capitals_rise_late():
    found = token_trajectories(load_model("smollm2-135m-instruct"), load_concept("capital-cities")[:40], seed=0)
    frame = found.to_frame().set_index(["token", "layer"])["probability"]
    assert frame["right", 30] > 10 * frame["right", 15]
    assert frame["right", 30] > frame["wrong", 30]
