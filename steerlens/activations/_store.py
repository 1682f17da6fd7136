"""Activations on disk: one safetensors file per site, named by what determines its content."""

import hashlib
import json
import mmap
import os
import struct
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, final

import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from steerlens.errors import ArtefactError

if TYPE_CHECKING:
    from steerlens.activations._extract import ActivationSource

SCHEMA = "steerlens/activations/1"
_SAFETENSORS_NAME = {torch.float32: "F32", torch.float64: "F64"}


def entry_path(folder: Path, source: "ActivationSource") -> Path:
    """File of this content: its name is the SHA-256 of everything that determines it."""
    content = json.dumps({"schema": SCHEMA, **asdict(source)}, sort_keys=True)
    return folder / f"{hashlib.sha256(content.encode()).hexdigest()}.safetensors"


@final
class ActivationFile:
    """Rows being filled in, in memory or straight into a safetensors file that appears once it is whole.

    The layout of safetensors is a length, a JSON header and the raw numbers; with the shape known in advance the
    numbers can be written in any order into a mapped file, so that memory holds one batch and no more.
    """

    def __init__(self, values: Float[Tensor, "2 pair d_model"], path: Path | None, partial: Path | None) -> None:
        self._values: Tensor | None = values
        self._path = path
        self._partial = partial

    @classmethod
    def create(cls, path: Path | None, n_pairs: int, width: int, dtype: torch.dtype) -> "ActivationFile":
        """Room for both classes of ``n_pairs`` pairs; in memory if ``path`` is None."""
        shape = (2, n_pairs, width)
        if path is None:
            return cls(torch.empty(shape, dtype=dtype), None, None)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.stem}.{os.getpid()}.partial")
        size = 2 * n_pairs * width * dtype.itemsize
        entry = {"dtype": _SAFETENSORS_NAME[dtype], "shape": list(shape), "data_offsets": [0, size]}
        header = json.dumps({"__metadata__": {"schema": SCHEMA}, "activations": entry}).encode()
        header += b" " * (-len(header) % 8)
        start = 8 + len(header)
        with partial.open("wb+") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            file.truncate(start + size)
            mapped = mmap.mmap(file.fileno(), start + size)
        values = torch.frombuffer(mapped, dtype=dtype, offset=start, count=2 * n_pairs * width).view(shape)
        return cls(values, path, partial)

    def write(self, rows: list[int], values: Float[Tensor, "batch d_model"]) -> None:
        """Put ``values`` at ``rows``, counted through both classes."""
        assert self._values is not None  # only finish() and discard() drop it, and both come last
        self._values.view(-1, self._values.shape[-1])[torch.tensor(rows)] = values

    def finish(self) -> Float[Tensor, "2 pair d_model"]:
        """The whole, now in its place on disk if it has one."""
        values, self._values = self._values, None
        assert values is not None
        if self._path is None or self._partial is None:
            return values
        del values
        os.replace(self._partial, self._path)
        return self.read(self._path)

    def discard(self) -> None:
        """Remove what was not finished."""
        self._values = None
        if self._partial is not None:
            self._partial.unlink(missing_ok=True)

    @staticmethod
    def read(path: Path) -> Float[Tensor, "2 pair d_model"]:
        """A finished file, memory-mapped.

        Raises:
            ArtefactError: If it is damaged.
        """
        try:
            return safetensors.torch.load_file(path)["activations"]
        except (SafetensorError, KeyError) as error:
            raise ArtefactError(f"{path} is damaged ({error}). Delete it; it will be computed again.") from None
