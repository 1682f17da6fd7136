"""The same plan on a Ray cluster: actors hold models, and the driver alone writes."""

import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

from steerlens.errors import ModelError, OptionError, SteerlensError
from steerlens.experiments._measure import TrialOutcome, WorkUnit, failure_reason
from steerlens.experiments._model_loaders import LOAD_ERRORS
from steerlens.experiments._plan import UNKNOWN, ModelPlan, StudyPlan
from steerlens.experiments._store import ResultStore
from steerlens.experiments._study import StudyModel
from steerlens.experiments._sweep import (
    SweepSummary,
    TrialFailure,
    note_failure,
    summed_up,
    tried,
    unit_steps,
    with_revision,
)
from steerlens.models import LensModel, load_model
from steerlens.progress import progress

ATTEMPTS = 4
"""How often a unit is given to an actor before it counts as failed: an actor can be lost through no fault of it."""

LOCAL = "local"

LOOK_SECONDS = 5.0
"""How long to wait for an actor before looking whether the nodes that could hold it still live."""

ANSWER_SECONDS = 10.0
"""How long a cluster's head may take to accept a connection; Ray itself tries for more than five minutes."""


@final
@dataclass(eq=False)
class _Task:
    """A unit of work, how often it was tried, and the resources its model needs."""

    model: StudyModel
    unit: WorkUnit
    memory: int
    attempts: int = 0


class _Worker:
    """Holds one model at a time, in a process of its own."""

    def __init__(self, device: str) -> None:
        import torch

        torch.set_num_threads(1)
        self._device = device
        self._held: tuple[StudyModel, LensModel] | None = None

    def revision(self, model: StudyModel) -> str:
        """Load a model and say what was loaded."""
        return self._model(model).revision

    def run(self, model: StudyModel, unit: WorkUnit) -> list[TrialOutcome | TrialFailure]:
        """Measure a unit."""
        try:
            lens = self._model(model)
        except LOAD_ERRORS as error:
            self._held = None
            return [TrialFailure(model.name, failure_reason(error), len(unit.specs))]
        if lens.revision != unit.specs[0].revision:
            reason = f"this node has {lens.revision!r}, but the study was planned for {unit.specs[0].revision!r}."
            return [TrialFailure(model.name, reason, len(unit.specs))]
        return tried(lens, unit)

    def _model(self, model: StudyModel) -> LensModel:
        if self._held is None or self._held[0] != model:
            self._held = None  # let the former go before the next is loaded
            self._held = model, load_model(model.name, dtype=model.dtype, revision=model.revision, device=self._device)
        return self._held[1]


def run_on_ray(plan: StudyPlan, store: ResultStore, *, address: str = LOCAL, device: str = "cpu") -> SweepSummary:
    """Run a plan on a Ray cluster; results are those of `Sweep.run`, and go through this process into the store.

    There is an actor for each CPU, or for each accelerator with ``device="cuda"``. Each holds one model and takes units
    until none is left. A unit whose actor fails, with its node or alone, is given to another, `ATTEMPTS` times in all.
    A model that needs more memory than any node offers is refused beforehand; if all nodes that offer it are lost, what
    waits for them is noted as failed.

    Args:
        plan: From `plan_study` or `plan_trials`.
        store: Where results go; on this machine.
        address: Of the cluster, such as ``"auto"`` or ``"ray://head:10001"``; ``"local"`` starts one here, unless this
            process is connected already.
        device: Where models run on the nodes.

    Raises:
        OptionError: If Ray is not installed, or no cluster answers.
    """
    ray = _connected(address)
    started = time.monotonic()
    slot = {"num_gpus": 1} if device.startswith("cuda") else {"num_cpus": 1}
    kind = _kind(slot)
    if not ray.cluster_resources().get(kind):
        raise OptionError(f"The cluster at {address!r} has no {kind}. Add one, or change --device.")
    failures: list[TrialFailure] = []
    tasks: deque[_Task] = deque()
    for part in plan.models:
        try:
            tasks += _tasks(ray, plan, part, store, slot, device)
        except (*LOAD_ERRORS, ray.exceptions.RayError) as error:
            lost = part.n_trials if part.problem else len(part.pending)
            failures.append(TrialFailure(part.model.name, _said(error), lost))
    for failure in failures:
        note_failure(store, failure)
    stored = 0
    with progress(f"sweep {plan.name}", max(sum(unit_steps(t.unit) for t in tasks), 1)) as advance:
        for outcome in _Crew(ray, slot, kind, device, tasks, advance).outcomes():
            if isinstance(outcome, TrialFailure):
                failures.append(outcome)
                note_failure(store, outcome)
            elif outcome.record is not None and outcome.items is not None:
                stored += store.append(outcome.record, outcome.items)
    return summed_up(plan, stored, failures, started)


@final
class _Crew:
    """Actors at work on a queue of units, grouped by model so that each loads few."""

    def __init__(
        self,
        ray: Any,
        slot: dict[str, int],
        kind: str,
        device: str,
        tasks: deque[_Task],
        advance: Callable[[int], None],
    ) -> None:
        self._ray, self._slot, self._kind, self._device = ray, slot, kind, device
        self._tasks, self._advance = tasks, advance
        self._running: dict[Any, tuple[Any, _Task]] = {}
        self._idle: list[tuple[Any, int]] = []

    def outcomes(self) -> Any:
        """Outcomes as units finish, in no order."""
        while self._tasks or self._running:
            self._hand_out()
            self._dismiss()
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=LOOK_SECONDS)
            for reference in ready:
                actor, task = self._running.pop(reference)
                yield from self._received(reference, actor, task)
            yield from self._given_up()
        self._dismiss()

    def _given_up(self) -> Iterator[TrialFailure]:
        """Units that no living node could hold; those of them whose actor waits for such a node are taken back."""
        largest = _largest_node(self._ray, self._kind)
        for reference, (actor, task) in list(self._running.items()):
            if task.memory > largest and not self._ray.wait([reference], num_returns=1, timeout=0)[0]:
                del self._running[reference]
                self._ray.kill(actor)
                self._tasks.appendleft(task)
        for task in [t for t in self._tasks if t.memory > largest]:
            self._tasks.remove(task)
            reason = _no_node(task.memory, largest, self._kind)
            yield TrialFailure(task.unit.specs[0].label, reason, len(task.unit.specs))

    def _dismiss(self) -> None:
        """End actors that have nothing to do: others may be waiting for their memory."""
        while self._idle:
            self._ray.kill(self._idle.pop()[0])

    def _hand_out(self) -> None:
        """Give units to actors, as many as the cluster has slots for; one at least, which then waits for its slot."""
        slots = max(1, int(self._ray.cluster_resources().get(self._kind, 0)))
        while self._tasks and len(self._running) < slots:
            task = self._tasks.popleft()
            actor = self._actor(task.memory)
            task.attempts += 1
            self._running[actor.run.remote(task.model, task.unit)] = actor, task

    def _actor(self, memory: int) -> Any:
        while self._idle:
            actor, has = self._idle.pop()
            if has >= memory:
                return actor
            self._ray.kill(actor)
        options = {**self._slot, "max_restarts": 0, "memory": memory}
        return self._ray.remote(_Worker).options(**options).remote(self._device)

    def _received(self, reference: Any, actor: Any, task: _Task) -> Any:
        try:
            outcomes = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._ray.kill(actor)  # if it is only out of reach, it must not hold a slot
            if task.attempts >= ATTEMPTS:
                reason = f"it failed on the cluster {task.attempts} times; the last time: {_said(error)}"
                yield TrialFailure(task.unit.specs[0].label, reason, len(task.unit.specs))
                return
            self._tasks.appendleft(task)
            return
        self._idle.append((actor, task.memory))
        self._advance(unit_steps(task.unit))
        yield from outcomes


def _tasks(
    ray: Any, plan: StudyPlan, part: ModelPlan, store: ResultStore, slot: dict[str, int], device: str
) -> list[_Task]:
    """The units of one model.

    Raises:
        ModelError: If it cannot run, or fits in no node.
    """
    if part.problem:
        raise ModelError(part.problem)
    if not part.pending:
        return []
    need = part.needed_bytes or 0
    room = _room(ray, device)
    if need > room:
        raise ModelError(
            f"{part.model.name!r} in {part.model.dtype} needs about {need / 1e9:.1f} GB, but the most that the "
            f"cluster offers is {room / 1e9:.1f} GB. Use a smaller dtype or larger nodes."
        )
    held = 0 if device.startswith("cuda") else need
    if part.trials[0].revision == UNKNOWN:
        part = with_revision(part, _loaded_revision(ray, part.model, slot, held, device), store)
    return [_Task(part.model, unit, held) for unit in plan.units(part.pending)]


def _loaded_revision(ray: Any, model: StudyModel, slot: dict[str, int], held: int, device: str) -> str:
    """Which weights a node loads under this name, asked of up to `ATTEMPTS` actors.

    Raises:
        ModelError: All of them failed, or no living node can hold it.
    """
    kind, said = _kind(slot), ""
    for _ in range(ATTEMPTS):
        worker = ray.remote(_Worker).options(**slot, max_restarts=0, memory=held).remote(device)
        asked = worker.revision.remote(model)
        try:
            while not ray.wait([asked], num_returns=1, timeout=LOOK_SECONDS)[0]:
                if held > (largest := _largest_node(ray, kind)):
                    raise ModelError(_no_node(held, largest, kind))
            return str(ray.get(asked))
        except ray.exceptions.RayError as error:
            if isinstance(error, SteerlensError):
                raise  # the model's own, on any node; Ray gives a task's error the class of its cause, too
            said = _said(error)
        finally:
            ray.kill(worker)
    raise ModelError(f"No node could say which weights it has: {ATTEMPTS} tries failed; the last time: {said}")


def _said(error: BaseException) -> str:
    """What went wrong, on one line, without the traceback that Ray sends along."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        error = cause
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, SteerlensError) else f"{type(error).__name__}: {text}"


def _kind(slot: Mapping[str, int]) -> str:
    """What Ray calls the resource that an actor takes."""
    return "GPU" if "num_gpus" in slot else "CPU"


def _largest_node(ray: Any, kind: str) -> float:
    """Bytes that the largest living node with a CPU or accelerator offers, taken or not; -1 if there is none."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return float(max((of.get("memory", 0) for of in nodes if of.get(kind, 0) >= 1), default=-1))


def _no_node(needed: int, largest: float, kind: str) -> str:
    there = f"the most that is left is {largest / 1e9:.1f} GB" if largest >= 0 else f"no node with a {kind} is left"
    return f"The nodes that could hold it ({needed / 1e9:.1f} GB) were lost: {there}. Run again when they are back."


def _room(ray: Any, device: str) -> float:
    """Bytes for a model: of the largest node, or of an accelerator."""
    if device.startswith("cuda"):
        return float(ray.get(ray.remote(_accelerator_bytes).options(num_gpus=1).remote()))
    return float(max((node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]), default=0))


def _accelerator_bytes() -> int:
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory)


def _connected(address: str) -> Any:
    """Ray, connected to the cluster at an address."""
    try:
        import ray
    except ImportError:
        raise OptionError("Running on a cluster needs Ray: pip install 'steerlens[ray]'.") from None
    if not ray.is_initialized():
        try:
            _knock(address)
            # "local" as it is: with no address Ray would join whatever RAY_ADDRESS or the last `ray start` names.
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except (OSError, ValueError, RuntimeError) as error:
            raise OptionError(f"No Ray cluster answers at {address!r}: {error}") from None
    return ray


def _knock(address: str) -> None:
    """Connect to the head and hang up, if the address names a host and a port.

    Raises:
        OSError: If nobody is there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
