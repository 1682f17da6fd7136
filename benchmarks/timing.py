"""Ratios of times measured side by side: shared machines change speed by the minute, so absolute times mean little."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
Work = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """How many times faster one way is than another: the median of repeats in turns, with their range.

    Args:
        name: What is measured.
        median, low, high: Of the repeats' ratios.
        n: Repeats.
        target: At least this much; None if nothing is demanded.
    """

    name: str
    median: float
    low: float
    high: float
    n: int
    target: float | None = None

    @classmethod
    def of(cls, name: str, values: list[float], target: float | None = None) -> "Ratio":
        """Median and range of the ratios of single repeats."""
        return cls(name, statistics.median(values), min(values), max(values), len(values), target)

    def __str__(self) -> str:
        verdict = "" if self.target is None else f"  at least {self.target:g}: {'met' if self.met else 'NOT MET'}"
        return f"{self.name:<72}{self.median:8.2f}  [{self.low:.2f}, {self.high:.2f}] n={self.n}{verdict}"

    @property
    def met(self) -> bool:
        """Whether the median reaches the target."""
        return self.target is None or self.median >= self.target


def seconds(work: Work) -> float:
    """Time of one run."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def interleaved(*works: Work, repeats: int) -> list[tuple[float, ...]]:
    """Times of the works in turns, after one run of each that does not count."""
    for work in works:
        work()
    return [tuple(seconds(work) for work in works) for _ in range(repeats)]


def save(name: str, ratios: list[Ratio], **facts: object) -> Path:
    """Write ratios as JSON beside the machine they were measured on."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    machine = {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    rows = [{**asdict(r), "met": r.met} for r in ratios]
    path.write_text(json.dumps({"machine": machine, **facts, "ratios": rows}, indent=1) + "\n")
    return path


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} x {os.cpu_count()}"
