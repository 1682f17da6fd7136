"""Time of every fit in closed form at the widths of GPT-2 XL and Llama-2-7B, and the memory that it takes.

python benchmarks/bench_fits.py                      # two minutes on two quiet cores

Memory is the rise of the process's peak while fitting, in units of the two samples (131 MB), as Linux's /proc has it.
A matrix of 4096 × 4096 is one unit; n × d × d would be 2000.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from timing import Ratio, save, seconds

from steerlens.maps import METHODS, SteeringMethod
from steerlens.testing import gaussian_samples

N = 2000
SECONDS = 2.0
"""Budget of a fit at width 1600."""

CLOSED = (
    "MeanShift", "OracleErasure", "DirectionShift", "NormRelativeShift", "NormRestoredShift", "InContextShift",
    "RandomShift", "DirectionalAblation", "AffineConceptEditing", "MeanMirror", "ConceptErasure", "ConceptSetPoint",
    "GatedSetPoint", "DiagonalTransport", "LinearAcT", "GaussianTransport", "ConceptorSteering", "Procrustes",
    "PairedRidge", "SpectralEditing", "AngularSteering", "SphericalSteering",
)  # fmt: skip


def closed() -> tuple[SteeringMethod, ...]:
    return tuple(m for m in METHODS if type(m).__name__ in CLOSED)


def fits() -> Iterator[Ratio]:
    """Two seconds over the time taken at width 1600."""
    source, target = gaussian_samples(n=N, width=1600)
    for method in closed():
        values = [SECONDS / seconds(lambda m=method: m.fit(source, target)) for _ in range(3)]
        yield Ratio.of(f"{type(method).__name__} fitted at width 1600: 2 s / time", values, 1.0)


def memory(name: str) -> float:
    """Rise of the peak above what the process holds while fitting at width 4096, in units of the samples."""
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(2, N, 4096, generator=generator, dtype=torch.float64)
    target += 1
    Path("/proc/self/clear_refs").write_text("5")  # the kernel forgets the peak so far
    before = kilobytes("VmRSS")
    next(m for m in closed() if type(m).__name__ == name).fit(source, target)
    return (kilobytes("VmHWM") - before) * 1024 / (source.nbytes + target.nbytes)


def kilobytes(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1])


def main() -> None:
    if len(sys.argv) > 1:
        print(memory(sys.argv[1]))
        return
    found = []
    for ratio in fits():
        print(ratio, flush=True)
        found.append(ratio)
    for method in closed():
        name = type(method).__name__
        done = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
        ratio = Ratio.of(f"{name} fitted at width 4096: peak memory / samples", [float(done.stdout)])
        print(ratio, flush=True)
        found.append(ratio)
    print(save("fits", found))


if __name__ == "__main__":
    main()
