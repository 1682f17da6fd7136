"""A study on a cluster of two nodes, one of which is killed: the records of a local run, and nothing twice."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steerlens.concepts import load_concept
from steerlens.errors import OptionError
from steerlens.experiments import ResultStore, Study, StudyMethod, StudyModel, Sweep, plan_study, run_on_ray
from steerlens.models import ModelDescription

ROOT = Path(__file__).parents[2]
NODE = {"num_cpus": 1, "memory": 2 * 10**9, "object_store_memory": 80 * 10**6, "include_dashboard": False}
STUDY = Study(
    name="clustered",
    models=(StudyModel("tiny-llama"),),
    concepts=(load_concept("sentiment"), load_concept("past-tense")),
    methods=(StudyMethod("MeanShift"),),
    layers=(1,),
    strengths=(0.0, 1.0),
    splits=(0, 1, 2),
    n_random=1,
    max_pairs=24,
    max_texts=5,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own warnings


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="needs pip install 'steerlens[ray]'")
    from ray.cluster_utils import Cluster

    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ENABLE_UV_RUN_RUNTIME_ENV"):
        monkeypatch.setenv(name, "0")
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    path = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "STEERLENS_PROGRESS": "0", "HF_HUB_OFFLINE": "1"}
    ray.init(address=cluster.address, runtime_env={"env_vars": path}, log_to_driver=False, logging_level="error")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_a_node_killed_in_the_middle_costs_no_trial_and_doubles_none(cluster: Any, tmp_path: Path):
    second = cluster.add_node(**{k: v for k, v in NODE.items() if k != "include_dashboard"})
    store = ResultStore(tmp_path / "cluster")
    killed: list[int] = []

    def kill() -> None:
        """As soon as something is stored, the second node dies with the actor on it."""
        while not (store.path / "log").exists():
            time.sleep(0.05)
        cluster.remove_node(second, allow_graceful=False)
        killed.append(len(ResultStore(store.path)))

    killer = threading.Thread(target=kill)
    killer.start()
    summary = run_on_ray(plan_study(STUDY, store), store)
    killer.join(timeout=60)
    local = ResultStore(tmp_path / "local")
    Sweep(plan_study(STUDY, local), local).run()
    assert summary.failures == ()
    assert summary.stored == len(store) == len(local) == STUDY.n_trials() == 12
    assert killed[0] < 12, "the node was killed too late to matter"
    for record in local:
        assert store[record.spec] == record
        assert store.items(record.spec).equals(local.items(record.spec))
    assert store.damage() == []
    again = run_on_ray(plan_study(STUDY, store), store)
    assert (again.stored, again.skipped) == (0, 12)


def test_units_that_only_a_lost_node_could_hold_are_noted_and_not_waited_for(cluster: Any, tmp_path: Path):
    large = cluster.add_node(num_cpus=1, memory=8 * 10**9, object_store_memory=80 * 10**6)
    store = ResultStore(tmp_path / "store")
    plan = plan_study(STUDY, store)
    wide = ModelDescription("tiny-llama", "LlamaForCausalLM", 4, 48, 6, 2, 304, 10**9)
    plan = replace(plan, models=(replace(plan.models[0], description=wide),))

    def kill() -> None:
        while not (store.path / "log").exists():
            time.sleep(0.05)
        cluster.remove_node(large, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    summary = run_on_ray(plan, store)
    killer.join(timeout=60)
    assert summary.failures
    assert summary.stored == len(store) > 0
    assert summary.stored + sum(f.n_trials for f in summary.failures) == 12
    assert all("(5.0 GB) were lost: the most that is left is 2.0 GB" in f.reason for f in summary.failures)


def test_a_model_that_fits_in_no_node_is_refused_beforehand(cluster: Any, tmp_path: Path):
    store = ResultStore(tmp_path / "store")
    small = replace(STUDY, concepts=STUDY.concepts[:1], splits=(0,))
    plan = plan_study(small, store)
    huge = ModelDescription("tiny-llama", "LlamaForCausalLM", 4, 48, 6, 2, 304, 10**12)
    plan = replace(plan, models=(replace(plan.models[0], description=huge),))
    started = time.monotonic()
    summary = run_on_ray(plan, store)
    assert time.monotonic() - started < 10  # no actor was asked
    [failure] = summary.failures
    assert "needs about 4400.6 GB, but the most that the cluster offers is 2.0 GB" in failure.reason
    assert len(store) == 0
    assert len(store.notes("failure")) == 1


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_an_address_where_nobody_listens_is_refused_at_once(tmp_path: Path, form: str):
    pytest.importorskip("ray", reason="needs pip install 'steerlens[ray]'")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = form.format(f"127.0.0.1:{free.getsockname()[1]}")
    store = ResultStore(tmp_path / "store")
    plan = plan_study(replace(STUDY, concepts=STUDY.concepts[:1], splits=(0,)), store)
    started = time.monotonic()
    with pytest.raises(OptionError, match=f"No Ray cluster answers at '{address}'"):
        run_on_ray(plan, store, address=address)
    assert time.monotonic() - started < 30
