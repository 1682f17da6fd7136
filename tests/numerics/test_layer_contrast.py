"""Contrast of layers on fixed logits, against scipy and loops over single rows."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, logsumexp, rel_entr, softmax

from steerlens.errors import OptionError, UnknownNameError
from steerlens.numerics import (
    NORMALISATIONS,
    check_contrast,
    contrast_terms,
    jensen_shannon,
    layer_contrast,
    penalise_repetition,
    plausible,
    reversed_jensen_shannon,
)

ROWS, LAYERS, VOCAB = 7, 5, 11


@pytest.fixture
def last() -> torch.Tensor:
    return 2 * torch.randn(ROWS, VOCAB, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def candidates() -> torch.Tensor:
    return 2 * torch.randn(LAYERS, ROWS, VOCAB, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def by_hand(last, candidates, *, alpha, divergence, normalisation):
    """One row at a time, in numpy, from the formulas."""
    scores, chosen = [], []
    for row in range(len(last)):
        p = softmax(last[row].numpy())
        far = []
        for layer in range(len(candidates)):
            q = softmax(candidates[layer, row].numpy())
            m = (p + q) / 2
            if divergence == "jensen-shannon":
                far.append(jensenshannon(p, q) ** 2)
            else:
                far.append(0.5 * (np.mean(rel_entr(m, p)) + np.mean(rel_entr(m, q))))
        pick = int(np.argmax(far))
        f = np.log(p) - log_softmax(candidates[pick, row].numpy())
        if normalisation == "vocabulary":
            f = f - logsumexp(f)
        f = np.where(p >= alpha * p.max(), f, -np.inf)
        if normalisation == "plausible":
            f = f - logsumexp(f)
        scores.append(f)
        chosen.append(pick)
    return torch.tensor(np.array(scores)), torch.tensor(chosen)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("divergence", ["jensen-shannon", "reversed"])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_scores_equal_a_loop_over_rows(last, candidates, alpha, divergence, normalisation):
    options = {"alpha": alpha, "divergence": divergence, "normalisation": normalisation}
    scores, chosen = by_hand(last, candidates, **options)
    found = layer_contrast(last, iter(candidates), **options)
    assert found.chosen.tolist() == chosen.tolist()
    torch.testing.assert_close(found.scores, scores, rtol=1e-10, atol=1e-10)
    assert len(set(chosen.tolist())) > 1  # else the choice would not be tested


def test_the_two_divergences_are_scipys_and_differ():
    p, q = torch.tensor([0.7, 0.3, 0.0]), torch.tensor([0.1, 0.2, 0.7])
    ours = jensen_shannon(p.double().log(), q.double().log())
    assert float(ours) == pytest.approx(jensenshannon(p, q) ** 2, rel=1e-6)
    p = torch.tensor([0.7, 0.29, 0.01])
    m = (p + q).numpy() / 2
    reversed_ = 0.5 * (rel_entr(m, p.numpy()).sum() + rel_entr(m, q.numpy()).sum()) / 3
    found = reversed_jensen_shannon(p.double().log(), q.double().log())
    assert float(found) == pytest.approx(reversed_, rel=1e-5)


def test_jensen_shannon_is_symmetric_bounded_and_zero_on_itself():
    draw = torch.randn(2, 50, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    log_p, log_q = (20 * draw).log_softmax(-1)
    found = jensen_shannon(log_p, log_q)
    torch.testing.assert_close(found, jensen_shannon(log_q, log_p))
    assert float(found.min()) > 0
    assert float(found.max()) <= math.log(2) + 1e-12
    torch.testing.assert_close(jensen_shannon(log_p, log_p), torch.zeros(50, dtype=torch.float64))


def test_a_token_that_is_all_but_excluded_decides_the_reversed_divergence_alone():
    """The two quantities pick different layers: the first candidate disagrees everywhere, the second on one token."""
    last = torch.tensor([[4.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    everywhere = torch.tensor([[0.0, 4.0, 0.0, 0.0]], dtype=torch.float64)
    one_token = torch.tensor([[4.0, 0.0, 0.0, -400.0]], dtype=torch.float64)
    picks = {
        d: int(layer_contrast(last, [everywhere, one_token], alpha=0.1, divergence=d, normalisation="none").chosen)
        for d in ("jensen-shannon", "reversed")
    }
    assert picks == {"jensen-shannon": 0, "reversed": 1}


def test_of_equally_far_candidates_the_first_is_chosen(last, candidates):
    twice = [candidates[2], candidates[2]]
    found = layer_contrast(last, twice, alpha=0.1, divergence="jensen-shannon", normalisation="none")
    assert not found.chosen.any()


def test_normalised_scores_are_log_probabilities_and_raw_ones_are_not(last, candidates):
    sums = {}
    for kind in NORMALISATIONS:
        found = layer_contrast(last, candidates, alpha=0.0, divergence="jensen-shannon", normalisation=kind)
        sums[kind] = found.scores.exp().sum(-1)
    one = torch.ones(ROWS, dtype=torch.float64)
    torch.testing.assert_close(sums["plausible"], one)
    torch.testing.assert_close(sums["vocabulary"], one)
    assert float((sums["none"] - 1).abs().min()) > 0.1


def test_with_a_cut_only_the_plausible_tokens_share_the_probability(last, candidates):
    options = {"alpha": 0.3, "divergence": "jensen-shannon"}
    found = layer_contrast(last, candidates, **options, normalisation="plausible").scores.exp()
    torch.testing.assert_close(found.sum(-1), torch.ones(ROWS, dtype=torch.float64))
    cut_after = layer_contrast(last, candidates, **options, normalisation="vocabulary").scores.exp()
    assert (cut_after.sum(-1) < 1 - 1e-6).any()
    torch.testing.assert_close(found == 0, ~plausible(last.log_softmax(-1), 0.3))


def test_against_a_layer_that_knows_nothing_raw_scores_pay_log_v_for_every_token(last):
    """The bias to long answers, as a theorem: with uniform p_M, F = log p_N + log V, and normalising takes it away."""
    uniform = torch.zeros(1, ROWS, VOCAB, dtype=torch.float64)
    log_p = last.log_softmax(-1)
    for kind, more in (("none", math.log(VOCAB)), ("vocabulary", 0.0), ("plausible", 0.0)):
        found = layer_contrast(last, uniform, alpha=0.0, divergence="jensen-shannon", normalisation=kind)
        torch.testing.assert_close(found.scores, log_p + more)


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_terms_of_single_layers_give_the_same_scores(last, candidates, alpha):
    log_p = last.log_softmax(-1)
    cell, token = torch.tensor([0, 0, 3, 6]), torch.tensor([1, 4, 2, int(log_p[6].argmax())])
    terms = [
        contrast_terms(log_p, c, (cell, token), alphas=(0.0, alpha), divergences=("jensen-shannon", "reversed"))
        for c in candidates
    ]
    for number, divergence in enumerate(("jensen-shannon", "reversed")):
        for kind in NORMALISATIONS:
            whole = layer_contrast(last, candidates, alpha=alpha, divergence=divergence, normalisation=kind)
            picked = whole.chosen[cell]
            far = torch.stack([t.divergence[number] for t in terms])
            assert far.argmax(0)[cell].tolist() == picked.tolist()
            score = log_p[cell, token] - torch.stack([t.log_prob for t in terms]).gather(0, picked[None])[0]
            if kind != "none":
                totals = torch.stack([t.log_total[1 if kind == "plausible" else 0] for t in terms])
                score = score - totals[picked, cell]
            expected = whole.scores[cell, token]
            kept = expected.isfinite()
            assert kept.any()
            torch.testing.assert_close(score[kept], expected[kept], rtol=1e-10, atol=1e-10)


def test_a_repeated_token_is_penalised_once_and_padding_never():
    scores = torch.tensor([[2.0, -2.0, 1.0, -1.0], [2.0, -2.0, 1.0, -1.0]])
    ids = torch.tensor([[0, 0, 1], [2, 2, 3]])
    mask = torch.tensor([[1, 1, 1], [0, 0, 1]])
    found = penalise_repetition(scores, ids, mask, penalty=2.0)
    torch.testing.assert_close(found, torch.tensor([[1.0, -4.0, 1.0, -1.0], [2.0, -2.0, 1.0, -2.0]]))
    torch.testing.assert_close(penalise_repetition(scores, ids, mask, penalty=1.0), scores)


def test_the_penalty_is_hugging_faces():
    from transformers import RepetitionPenaltyLogitsProcessor

    scores = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    ids = torch.randint(30, (4, 9), generator=torch.Generator().manual_seed(1))
    theirs = RepetitionPenaltyLogitsProcessor(1.2)(ids, scores.clone())
    torch.testing.assert_close(penalise_repetition(scores, ids, torch.ones_like(ids), penalty=1.2), theirs)


def test_what_is_no_contrast_is_refused(last, candidates):
    good = {"alpha": 0.1, "divergence": "jensen-shannon", "normalisation": "none"}
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(OptionError, match="between 0 and 1"):
            layer_contrast(last, candidates, **{**good, "alpha": wrong})
    with pytest.raises(OptionError, match="at least one candidate"):
        layer_contrast(last, [], **good)
    for divergence, normalisation, name in (("kl", "none", "divergence"), ("reversed", "softmax", "normalisation")):
        with pytest.raises(UnknownNameError, match=f"not a known {name}"):
            check_contrast(0.1, divergence, normalisation)
