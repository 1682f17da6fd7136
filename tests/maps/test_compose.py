"""Maps made of maps do what their parts do, in order, and in the space they were fitted in."""

import pytest
import torch
from torch.testing import assert_close

from steerlens.errors import FitError, OptionError
from steerlens.maps import (
    AngularSteering,
    ConceptErasure,
    DirectionalAblation,
    GaussianTransport,
    InSequence,
    InSubspace,
    MeanMirror,
    MeanShift,
    PairedRidge,
    ProbeGated,
    SequenceMap,
    method_family,
    method_needs,
    method_reversible,
)
from steerlens.numerics import energy_distance, moments
from steerlens.testing import gaussian_samples

EXACT = GaussianTransport(rank=12, shrinkage=0.0)


def test_the_second_is_fitted_on_what_the_first_left():
    source, target = gaussian_samples()
    both = InSequence((DirectionalAblation(), EXACT)).fit(source, target)
    first = DirectionalAblation().fit(source, target)
    second = EXACT.fit(first(source), target)
    assert_close(both(source), second(first(source)))
    # Fitted on the source as it was, the second would carry what the first has already taken.
    assert not torch.allclose(both(source), EXACT.fit(source, target)(first(source)), atol=0.1)


def test_what_the_first_solved_is_left_alone_by_the_second():
    source, target = gaussian_samples()
    found = InSequence((MeanShift(), EXACT)).fit(source, target)
    assert found.maps[1].displacement(target.mean(dim=0)).norm() < 1e-9
    assert_close(moments(found(source)).cov, moments(target).cov)
    twice = InSequence((MeanShift(), MeanShift())).fit(source, target)
    assert_close(twice(source), MeanShift().fit(source, target)(source))


def test_a_sequence_goes_back_the_way_it_came():
    source, target = gaussian_samples()
    found = InSequence((MeanMirror(), EXACT)).fit(source, target)
    assert_close(found(found(source), strength=-1.0), source)
    # In the same order the reverses would not undo it.
    wrong = SequenceMap(tuple(m.reverse for m in found.maps))
    assert not torch.allclose(wrong(found(source)), source, atol=0.1)


def test_in_a_subspace_the_map_is_that_of_the_coordinates_and_the_mean_moves_elsewhere():
    source, target = gaussian_samples()
    found = InSubspace(EXACT, rank=4).fit(source, target)
    U = found.basis
    inside = GaussianTransport(rank=4, shrinkage=0.0).fit(source @ U, target @ U)
    assert_close(found(source) @ U, inside(source @ U))
    outside = torch.eye(len(U), dtype=U.dtype) - U @ U.T
    assert_close(moments(found(source) @ outside).cov, moments(source @ outside).cov)
    assert_close(found(source).mean(dim=0), target.mean(dim=0))


def test_whitening_lets_a_quiet_direction_count():
    """Every axis has its own unit, or all have one; an affine transport is the same in either."""
    source, target = gaussian_samples()
    loud = torch.ones(12, dtype=torch.float64)
    loud[0] = 100.0
    evenly, whitened = (InSubspace(EXACT, rank=12, scaling=s).fit(source * loud, target * loud) for s in
                        ("even", "whitened"))  # fmt: skip
    assert whitened.scale.max() > 50 * whitened.scale.min()
    assert evenly.scale.max() == evenly.scale.min()
    assert energy_distance(evenly(source * loud), whitened(source * loud)) < 0.05


def test_what_a_composition_says_of_itself_follows_from_its_parts():
    pairs = InSequence((MeanShift(), PairedRidge()))
    assert (method_needs(pairs), method_family(pairs), method_reversible(pairs)) == ("pairs", "affine", True)
    erased = InSequence((MeanShift(), ConceptErasure()))
    assert (method_needs(erased), method_reversible(erased)) == ("samples", False)
    assert method_family(InSequence((MeanShift(), MeanShift()))) == "additive"
    assert method_reversible(ProbeGated(ConceptErasure())) is False
    assert method_reversible(InSubspace(AngularSteering())) is True


def test_a_sequence_whose_first_map_leaves_nothing_to_find_is_refused():
    source, target = gaussian_samples()
    with pytest.raises(FitError, match="same mean"):
        InSequence((MeanShift(), DirectionalAblation())).fit(source, target)


def test_compositions_of_nothing_are_refused():
    with pytest.raises(OptionError, match="at least two"):
        InSequence((MeanShift(),))
    with pytest.raises(OptionError, match="rank"):
        InSubspace(MeanShift(), rank=0)
