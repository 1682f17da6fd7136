"""Fitted maps on disk: tensors in safetensors, everything else in a JSON manifest beside them."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from steerlens.errors import ArtefactError, UnknownNameError
from steerlens.maps._base import SteeringMap

SCHEMA = "steerlens/map/1"
TENSORS = "map.safetensors"
MANIFEST = "manifest.json"


@final
@dataclass(frozen=True)
class Manifest:
    """What a saved map is and where it comes from.

    Args:
        map: Class name of the map.
        d_model: Width of the activations it takes.
        fields: How the fields of the map are stored: tensor keys, plain values, nested maps.
        sha256: Of the tensor file.
        provenance: Model, site, concept, method and sample sizes, as given to `save_map`.
    """

    map: str
    d_model: int | None
    fields: Mapping[str, Any]
    sha256: str
    provenance: Mapping[str, Any]


def save_map(steering_map: SteeringMap, folder: str | Path, *, provenance: Mapping[str, Any]) -> Path:
    """Write a map into a folder of its own.

    Args:
        steering_map: A fitted map; a frozen dataclass of tensors, plain values, and maps.
        folder: Made if it does not exist.
        provenance: Where the map comes from; ``"model"`` is checked by `load_map`. Must be JSON.

    Raises:
        ArtefactError: If the map has a field that cannot be stored.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    fields = _flatten(steering_map, "", tensors)
    data = safetensors.torch.save(tensors)
    manifest = {
        "schema": SCHEMA,
        "map": type(steering_map).__name__,
        "d_model": steering_map.d_model,
        "fields": fields,
        "sha256": hashlib.sha256(data).hexdigest(),
        "provenance": dict(provenance),
    }
    _replace(folder / TENSORS, data)
    _replace(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode())
    return folder


def load_map(folder: str | Path, *, model: str | None = None, d_model: int | None = None) -> SteeringMap:
    """Read a map that `save_map` wrote.

    Args:
        folder: Where the map is.
        model: Name of the model it should have been fitted on; None skips the check.
        d_model: Width it should have; None skips the check.

    Raises:
        ArtefactError: If the files are missing, malformed, changed, of an unknown schema, or of another model or
            width.
        UnknownNameError: If the class of the map is not known here; import the module that defines it first.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    fitted_on = manifest.provenance.get("model")
    if model is not None and fitted_on != model:
        raise ArtefactError(f"{folder} holds a map fitted on {fitted_on!r}, but it is to be used on {model!r}.")
    if d_model is not None and manifest.d_model != d_model:
        raise ArtefactError(f"{folder} holds a map of width {manifest.d_model}, but the model's width is {d_model}.")
    try:
        data = (folder / TENSORS).read_bytes()
    except OSError:
        raise ArtefactError(f"{folder} has a manifest but no {TENSORS}. Save the map again.") from None
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise ArtefactError(f"{folder / TENSORS} is not the file its manifest describes. Save the map again.")
    try:
        tensors = safetensors.torch.load(data)
        return _assemble(manifest.map, manifest.fields, tensors)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ArtefactError(f"{folder} cannot be read as a {manifest.map} ({error}). Save the map again.") from None


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of a saved map.

    Raises:
        ArtefactError: If it is missing, malformed or of an unknown schema.
    """
    path = Path(folder) / MANIFEST
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError:
        raise ArtefactError(f"{path} cannot be read. Expected a folder written by save_map.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path} is not valid JSON ({error}).") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise ArtefactError(f"{path} has schema {schema!r}, but this version of steerlens reads {SCHEMA!r}.")
    try:
        return Manifest(**{f.name: document[f.name] for f in dataclasses.fields(Manifest)})
    except KeyError as error:
        raise ArtefactError(f"{path} lacks the field {error}. Save the map again.") from None


def _flatten(steering_map: SteeringMap, prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Put the tensors of a map into ``tensors`` and say in JSON where each field went."""
    if not dataclasses.is_dataclass(steering_map):
        raise ArtefactError(f"Only dataclasses can be saved, but {type(steering_map).__name__} is none.")
    fields: dict[str, Any] = {}
    for f in dataclasses.fields(steering_map):
        value, key = getattr(steering_map, f.name), prefix + f.name
        if isinstance(value, Tensor):
            tensors[key] = value.detach().cpu().contiguous().clone()
            fields[f.name] = {"tensor": key}
        elif isinstance(value, SteeringMap):
            fields[f.name] = {"map": type(value).__name__, "fields": _flatten(value, key + ".", tensors)}
        elif isinstance(value, tuple) and all(isinstance(v, Tensor) for v in value):
            keys = [f"{key}.{i}" for i in range(len(value))]
            tensors.update({k: v.detach().cpu().contiguous().clone() for k, v in zip(keys, value, strict=True)})
            fields[f.name] = {"tensors": keys}
        elif isinstance(value, tuple) and all(isinstance(v, SteeringMap) for v in value):
            fields[f.name] = {
                "maps": [
                    {"map": type(v).__name__, "fields": _flatten(v, f"{key}.{i}.", tensors)}
                    for i, v in enumerate(value)
                ]
            }
        elif value is None or isinstance(value, str | int | float | bool):
            fields[f.name] = {"value": value}
        else:
            raise ArtefactError(
                f"Field {f.name!r} of {type(steering_map).__name__} is a {type(value).__name__}, which cannot be saved."
                " Use tensors, maps, tuples of either, numbers or strings."
            )
    return fields


def _assemble(name: str, fields: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> SteeringMap:
    classes = {c.__name__: c for c in _subclasses(SteeringMap)}  # type: ignore[type-abstract]
    if name not in classes:
        raise UnknownNameError("steering map", name, classes, "Import the module that defines it first.")
    values: dict[str, Any] = {}
    for field, stored in fields.items():
        if "tensor" in stored:
            values[field] = tensors[stored["tensor"]]
        elif "tensors" in stored:
            values[field] = tuple(tensors[k] for k in stored["tensors"])
        elif "maps" in stored:
            values[field] = tuple(_assemble(one["map"], one["fields"], tensors) for one in stored["maps"])
        elif "map" in stored:
            values[field] = _assemble(stored["map"], stored["fields"], tensors)
        else:
            values[field] = stored["value"]
    return classes[name](**values)


def _subclasses(cls: type[SteeringMap]) -> list[type[SteeringMap]]:
    return [c for direct in cls.__subclasses__() for c in (direct, *_subclasses(direct))]


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that a kill leaves the old one or the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)
