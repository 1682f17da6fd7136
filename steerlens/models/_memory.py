"""How much memory a model needs, and how much this machine has. Imports no torch."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
LIBRARIES = 600_000_000
"""Bytes that Python, torch and TransformerLens hold before any model (measured: 0.42 to 0.6 GB)."""
WORKING_SHARE = 0.1
"""Working memory as a share of the weights: activations and keys and values of a moderate batch."""


def needed_bytes(n_parameters: int, dtype: str) -> int:
    """Estimate of the memory to run a model: its weights, a tenth of them to work in, and the libraries."""
    weights = n_parameters * ITEM_BYTES[dtype]
    return int(weights * (1 + WORKING_SHARE)) + LIBRARIES


def free_bytes() -> int | None:
    """Memory that this process may still take: of the machine, its control groups, and its own limits.

    None where the system does not tell (it is read from Linux's /proc and /sys).
    """
    room = [_field("/proc/meminfo", "MemAvailable:"), *_group_room(), *_own_room()]
    known = [n for n in room if n is not None]
    return max(0, min(known)) if known else None


def gigabytes(n_bytes: int) -> str:
    """Bytes as people say them: `3.12 GB`, in powers of ten."""
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 10_000_000 else f"{n_bytes / 1e6:.1f} MB"


def _group_room() -> Iterator[int]:
    """Room in the control group of this process and in those around it, by either version of the interface."""
    names = ["/"]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers in ("", "memory") and ".." not in name:
            names += [name, *map(str, PurePosixPath(name).parents)]
    files = (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    )
    for name in dict.fromkeys(names):
        for root, limit_file, used_file in files:
            folder = f"{root}{name.rstrip('/')}"
            limit, used = _number(f"{folder}/{limit_file}"), _number(f"{folder}/{used_file}")
            if limit is not None and used is not None:
                # Pages of files that nobody holds are given back when memory is short.
                yield limit - used + (_field(f"{folder}/memory.stat", "inactive_file", unit=1) or 0)


def _own_room() -> Iterator[int]:
    """Room within the limits that were set on the process itself (`ulimit -v`, `ulimit -d`)."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    for limit, field in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
        soft, used = resource.getrlimit(limit)[0], _field("/proc/self/status", field)
        if soft != resource.RLIM_INFINITY and used is not None:
            yield soft - used


def _field(path: str, name: str, *, unit: int = 1024) -> int | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * unit for line in lines if line.startswith(name)), None)


def _number(path: str) -> int | None:
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
