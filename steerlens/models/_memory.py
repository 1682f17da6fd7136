"""How much memory a model needs, and how much this machine has. Imports no torch."""

from pathlib import Path

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
    """Memory that a new process may take, within the container's limit; None where Linux does not tell."""
    available = _field("/proc/meminfo", "MemAvailable:")
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    room = [n for n in (available, None if limit is None or used is None else limit - used) if n is not None]
    return max(0, min(room)) if room else None


def gigabytes(n_bytes: int) -> str:
    """Bytes as people say them: `3.12 GB`, in powers of ten."""
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 10_000_000 else f"{n_bytes / 1e6:.1f} MB"


def _field(path: str, name: str) -> int | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)


def _number(path: str) -> int | None:
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
