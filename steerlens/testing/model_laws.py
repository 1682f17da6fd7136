"""What holds for every model that is steered."""

import pytest

from steerlens.interventions import ModelReport, check_model
from steerlens.models import LensModel


class ModelLaws:
    """Subclass and supply ``model``; override ``report`` to try other interventions, or other sizes."""

    @pytest.fixture(scope="class")
    @classmethod
    def report(cls, model: LensModel) -> ModelReport:
        return check_model(model)

    def test_a_row_does_not_depend_on_its_batch(self, report: ModelReport) -> None:
        _holds(report, "batched = one at a time")

    def test_the_side_of_padding_makes_no_difference(self, report: ModelReport) -> None:
        _holds(report, "left padding = right padding")

    def test_a_key_value_cache_makes_no_difference(self, report: ModelReport) -> None:
        _holds(report, "KV cache = none")

    def test_strength_zero_is_the_unsteered_model(self, report: ModelReport) -> None:
        _holds(report, "strength 0 = unsteered")

    def test_replay_equals_hooks(self, report: ModelReport) -> None:
        _holds(report, "replay = hooks")
        assert not report.fallback, report.fallback

    def test_every_intervention_does_something(self, report: ModelReport) -> None:
        assert report.holds, str(report)

    def test_nothing_is_left_on_the_model(self, report: ModelReport, model: LensModel) -> None:
        assert not model.is_hooked


def _holds(report: ModelReport, name: str) -> None:
    found = [one for one in report.invariants if one.name == name]
    assert found, f"{name} was not tried"
    assert found[0].holds, str(report)
