"""What becomes of a study whose actors die, whose nodes lack steerlens, or whose only large node is gone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steerlens.concepts import load_concept
from steerlens.errors import ModelError
from steerlens.experiments import ResultStore, Study, StudyMethod, StudyModel, SweepSummary, _ray, plan_study
from steerlens.experiments._plan import UNKNOWN

STUDY = Study(
    name="lost", models=(StudyModel("tiny-llama"),), concepts=(load_concept("sentiment"),),
    methods=(StudyMethod("MeanShift"),), layers=(1,), strengths=(0.0, 1.0), splits=(0, 1), n_random=0, max_pairs=24,
    max_texts=5,
)  # fmt: skip
LARGE, SMALL = 10**12, 10**3
NEVER = object()


class Cluster:
    """As much of Ray as the driver uses. Each actor gives the next answer: a value, an error, or none for ever.

    While an answer does not come, the large node dies.
    """

    def __init__(self, exceptions: Any, *answers: object) -> None:
        self.exceptions = exceptions
        self.answers, self.given = list(answers), dict[object, object]()
        self.memory, self.waits, self.started, self.killed = LARGE, 0, 0, 0

    def remote(self, _: type) -> Any:
        def start(device: str) -> Any:
            self.started += 1
            return SimpleNamespace(revision=SimpleNamespace(remote=self._ask), run=SimpleNamespace(remote=self._ask))

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=start))

    def _ask(self, *_: object) -> object:
        reference = object()
        self.given[reference] = self.answers.pop(0)
        return reference

    def wait(self, references: list[object], *, num_returns: int, timeout: float) -> tuple[list[object], list[object]]:
        self.waits += 1
        assert self.waits < 50, "waits for ever"
        ready = [r for r in references if self.given[r] is not NEVER][:num_returns]
        if not ready:
            self.memory = SMALL
        return ready, [r for r in references if r not in ready]

    def get(self, reference: object) -> object:
        answer = self.given[reference]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self, _: object) -> None:
        self.killed += 1

    def nodes(self) -> list[dict[str, Any]]:
        there = {"CPU": 1.0, "memory": float(self.memory)}
        return [{"Alive": True, "Resources": there}, {"Alive": False, "Resources": there | {"memory": LARGE}}]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 1.0}


@pytest.fixture
def exceptions() -> Any:
    return pytest.importorskip("ray.exceptions", reason="needs pip install 'steerlens[ray]'")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SweepSummary]:
    def run(cluster: Cluster, *, known: bool) -> SweepSummary:
        store = ResultStore(tmp_path / "store")
        plan = plan_study(STUDY, store)
        [part] = plan.models
        if not known:
            trials = STUDY.trials(part.model, revision=UNKNOWN, n_layers=4)
            plan = replace(plan, models=(replace(part, trials=trials, pending=trials),))
        monkeypatch.setattr(_ray, "_connected", lambda _: cluster)
        summary = _ray.run_on_ray(plan, store)
        assert len(store.notes("failure")) == len(summary.failures)
        assert cluster.killed == cluster.started
        return summary

    return run


def lost(exceptions: Any, name: str) -> Exception:
    error = getattr(exceptions, name)
    made: Exception = error("gone") if name in ("OutOfMemoryError", "NodeDiedError") else error()
    return made


@pytest.mark.parametrize("name", ["ActorDiedError", "OutOfMemoryError", "NodeDiedError", "WorkerCrashedError"])
def test_an_actor_lost_while_it_looks_at_its_weights_is_replaced(run: Any, exceptions: Any, name: str):
    cluster = Cluster(exceptions, lost(exceptions, name), lost(exceptions, name), "revision", [], [])
    assert run(cluster, known=False).failures == ()
    assert cluster.answers == []


def test_where_every_actor_is_lost_the_model_is_noted_and_the_sweep_ends(run: Any, exceptions: Any):
    cluster = Cluster(exceptions, *[exceptions.ActorDiedError() for _ in range(_ray.ATTEMPTS)])
    [failure] = run(cluster, known=False).failures
    assert (failure.what, failure.n_trials) == ("tiny-llama", 2)
    assert "4 tries failed; the last time: ActorDiedError: " in failure.reason


def test_a_model_that_no_node_can_load_is_asked_for_once(run: Any, exceptions: Any):
    error = exceptions.RayTaskError("revision", "Traceback", ModelError("'x' is broken.")).as_instanceof_cause()
    cluster = Cluster(exceptions, error)
    [failure] = run(cluster, known=False).failures
    assert failure.reason == "'x' is broken."


@pytest.mark.parametrize("known", [True, False])
def test_nodes_without_steerlens_fail_what_they_are_given_and_no_more(run: Any, exceptions: Any, known: bool):
    missing = ModuleNotFoundError("No module named 'steerlens'")
    error = exceptions.RayTaskError("run", "Traceback", missing).as_instanceof_cause()
    cluster = Cluster(exceptions, *[error] * _ray.ATTEMPTS, [])
    [failure] = run(cluster, known=known).failures
    assert failure.reason.endswith("the last time: ModuleNotFoundError: No module named 'steerlens'")
    assert failure.n_trials == (1 if known else 2)


@pytest.mark.parametrize("known", [True, False])
def test_units_that_no_living_node_can_hold_are_not_waited_for(run: Any, exceptions: Any, known: bool):
    summary = run(Cluster(exceptions, NEVER), known=known)
    assert sum(f.n_trials for f in summary.failures) == 2
    for failure in summary.failures:
        assert "The nodes that could hold it (0.6 GB) were lost: the most that is left is 0.0 GB" in failure.reason
