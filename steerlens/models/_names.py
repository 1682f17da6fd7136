"""Names of models: ours, TransformerLens's, and what a hub name looks like. Reads no network."""

import os
import re

DEMO_NAME = "smollm2-135m-instruct"
TINY_NAMES = ("tiny-gpt2", "tiny-llama")
PLANTED_NAMES = ("planted-linear", "planted-xor", "planted-cycle")
OWN_NAMES = (DEMO_NAME, *TINY_NAMES, *PLANTED_NAMES)
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def looks_like_path(name: str) -> bool:
    """Whether a name that is no existing path was surely meant as one."""
    return (
        name.startswith((".", "~", os.sep))
        or name.endswith((".gguf", ".safetensors", ".bin", ".pt", ".pth"))
        or name.count("/") > 1
        or "\\" in name
    )


def hub_name(name: str) -> str | None:
    """The hub's name of this model, or None if the name cannot be one.

    `org/name` is taken as it stands; a bare name must be known to TransformerLens, whose short aliases
    (`gpt2-small`, `pythia-70m`) are resolved.
    """
    official, aliases = _host_names()
    if name in official or _HUB.fullmatch(name):
        return name
    return aliases.get(name)


def suggestions() -> list[str]:
    """All names that would have been understood, for the nearest matches to an unknown one."""
    official, aliases = _host_names()
    return [*OWN_NAMES, *official, *aliases]


def _host_names() -> tuple[frozenset[str], dict[str, str]]:
    from transformer_lens.supported_models import OFFICIAL_MODEL_NAMES
    from transformer_lens.tools.model_registry.registry_io import load_model_aliases

    aliases = {short: official for official, shorts in load_model_aliases().items() for short in shorts}
    return frozenset(OFFICIAL_MODEL_NAMES), aliases
