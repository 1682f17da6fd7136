"""Maps on disk as interventions: what was saved says where it acts."""

import ast
from pathlib import Path

from steerlens.activations import Site, TokenSelector
from steerlens.activations._selectors import TOKEN_SELECTORS
from steerlens.errors import ArtefactError
from steerlens.interventions._edits import Intervention
from steerlens.maps import load_map, read_manifest
from steerlens.models import LensModel


def load_intervention(model: LensModel, folder: str | Path, *, strength: float) -> Intervention:
    """A saved map at the site it was fitted for, as `steerlens compare` writes it to ``maps/``.

    Args:
        model: What to steer; the map must have been fitted on it.
        folder: Written by `steerlens.maps.save_map`, with ``site`` and ``tokens`` in its provenance.
        strength: See `SteeringMap`.

    Raises:
        ArtefactError: If the map cannot be read, is of another model, or does not say where it acts.
        SiteError: If the model has no such site.
    """
    facts = read_manifest(folder).provenance
    if "site" not in facts or "tokens" not in facts:
        raise ArtefactError(
            f"{folder} does not say where its map acts: its provenance has {', '.join(facts) or 'nothing'}, but needs "
            "'site' and 'tokens'. Save it with both, or load it with load_map and name the site yourself."
        )
    site = Site(str(facts["site"]), _selector(str(facts["tokens"]), folder))
    site.check(model)
    return Intervention({site: load_map(folder, model=model.name)}, strength)


def _selector(text: str, folder: str | Path) -> TokenSelector:
    """A token selector from its ``repr``; only the shipped ones, and nothing is evaluated but numbers."""
    try:
        call = ast.parse(text, mode="eval").body
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args:
            values = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
            return TOKEN_SELECTORS[call.func.id](**values)
    except (SyntaxError, ValueError, KeyError, TypeError):
        pass
    raise ArtefactError(
        f"{folder} names the tokens {text!r}, which is no selector of steerlens. Expected one of "
        f"{', '.join(sorted(TOKEN_SELECTORS))}. Load the map with load_map and name the site yourself."
    )
