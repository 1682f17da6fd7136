"""What holds for every hypothesis: it can be wrong, it is right on planted studies, and it knows when to be silent."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from steerlens.theories import (
    THEORY_COLUMNS,
    Admissibility,
    Hypothesis,
    Outcome,
    PlantedCase,
    admissibility,
    tidy,
)


class TheoryLaws:
    """Subclass and supply ``hypothesis``; override ``n_studies`` for sharper shares."""

    @pytest.fixture(scope="class")
    @classmethod
    def n_studies(cls) -> int:
        return 40

    @pytest.fixture(scope="class")
    @classmethod
    def found(cls, hypothesis: Hypothesis, n_studies: int) -> Admissibility:
        return admissibility(hypothesis, n_studies=n_studies, seed=0)

    def test_it_is_right_where_the_answer_is_known(self, found: Admissibility) -> None:
        assert found.admissible, str(found)

    def test_it_can_be_supported_and_refuted(self, found: Admissibility) -> None:
        assert found.outcomes[PlantedCase.TRUE][Outcome.SUPPORTED]
        assert found.outcomes[PlantedCase.FALSE][Outcome.REFUTED]

    def test_it_says_beforehand_what_it_predicts_and_what_refutes_it(self, hypothesis: Hypothesis) -> None:
        assert hypothesis.id
        assert hypothesis.theory
        assert hypothesis.citations
        assert hypothesis.population
        assert hypothesis.design
        assert any(p.threshold is not None and not p.optional for p in hypothesis.predictions)
        names = [p.name for p in hypothesis.predictions]
        assert len(set(names)) == len(names)

    def test_it_is_frozen(self, hypothesis: Hypothesis) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            hypothesis.level = 0.5  # type: ignore[misc]

    def test_a_changed_number_is_another_hypothesis(self, hypothesis: Hypothesis) -> None:
        assert dataclasses.replace(hypothesis).fingerprint == hypothesis.fingerprint
        assert dataclasses.replace(hypothesis, level=0.9).fingerprint != hypothesis.fingerprint
        assert json.loads(hypothesis.canonical)["statement"][0] == hypothesis.id

    def test_planted_studies_are_drawn_by_their_seed(self, hypothesis: Hypothesis) -> None:
        for case in PlantedCase:
            one, again, other = (hypothesis.planted(case, seed=seed) for seed in (1, 1, 2))
            assert tuple(one.columns) == THEORY_COLUMNS
            assert one.equals(again)
            assert not one.equals(other)

    def test_the_order_of_records_makes_no_difference(self, hypothesis: Hypothesis) -> None:
        records = hypothesis.planted(PlantedCase.TRUE, seed=3)
        shuffled = records.sample(frac=1, random_state=0, ignore_index=True)
        assert hypothesis.judge(shuffled).outcome is hypothesis.judge(records).outcome

    def test_no_records_are_void(self, hypothesis: Hypothesis) -> None:
        self._is_void(hypothesis, tidy())
        self._is_void(hypothesis, hypothesis.planted(PlantedCase.TRUE, seed=1).iloc[:1])

    def test_a_missing_column_is_void(self, hypothesis: Hypothesis) -> None:
        for column in ("value", "quantity", "concept", "split", "role"):
            self._is_void(hypothesis, hypothesis.planted(PlantedCase.TRUE, seed=1).drop(columns=column))

    def test_a_missing_quantity_is_void(self, hypothesis: Hypothesis) -> None:
        records = hypothesis.planted(PlantedCase.TRUE, seed=1)
        for name in {q.name for q in hypothesis.quantities.values() if not q.optional}:
            self._is_void(hypothesis, records[records["quantity"] != name])

    def test_a_number_that_is_none_is_void(self, hypothesis: Hypothesis) -> None:
        records = hypothesis.planted(PlantedCase.TRUE, seed=1)
        for name in {q.name for q in hypothesis.quantities.values() if not q.optional}:
            first = int(np.flatnonzero(records["quantity"] == name)[0])
            for bad in (np.nan, np.inf):
                spoiled = records.copy()
                spoiled.loc[first, "value"] = bad
                self._is_void(hypothesis, spoiled)

    def test_what_is_not_of_the_test_half_is_not_read(self, hypothesis: Hypothesis) -> None:
        self._is_void(hypothesis, hypothesis.planted(PlantedCase.TRUE, seed=1).assign(split="select"))

    def _is_void(self, hypothesis: Hypothesis, records: pd.DataFrame) -> None:
        verdict = hypothesis.judge(records)
        assert verdict.outcome is Outcome.VOID, str(verdict)
        assert verdict.reason
