"""Ordered concepts: how far straight lines and curves through the classes lead from where activations are."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, final

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from torch import Tensor

from steerlens.activations import Site, extract
from steerlens.concepts import ConceptDataset, Split
from steerlens.models import LensModel
from steerlens.numerics import moments, principal_subspace
from steerlens.theories._chosen_site import ChosenSite
from steerlens.theories._records import tidy

PATH_QUANTITIES = frozenset({"path_energy", "distortion"})
"""Quantities of ordered concepts."""

COMPONENTS, POINTS, NEIGHBOUR, ORDERS = 64, 50, 5, 20
"""Principal components, points of a path, which nearest row counts, and other orders of the classes."""

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@final
@dataclass(frozen=True)
class Paths:
    """Straight and curved ways between the classes of an ordered concept.

    Args:
        energy: Mean energy by name of the path: chord, geodesic, and other order.
        distortion: Mean over pairs of classes of the geodesic's length over the chord's.
    """

    energy: Mapping[str, float]
    distortion: float


def path_evidence(at: ChosenSite) -> pd.DataFrame:
    """`path_records` of a concept at its chosen site.

    Args:
        at: The concept and its site.
    """
    return path_records(at.model, at.split, at.site, concept=at.concept, seed=at.study.seed)


def path_records(model: LensModel, split: Split, site: Site, *, concept: str, seed: int) -> pd.DataFrame:
    """Energies of paths, and distortion, of a concept whose pairs have the number of their class as ``index``.

    The class is that of the negative text. Those of a concept whose pairs also have a ``successor`` lie on a ring:
    there source and target have one mean, so that no direction can be fitted and a study of theories cannot measure the
    concept; its paths are measured here all the same. Nothing of other concepts, and nothing where the fitting or
    the test half lacks a class, or there are fewer than four.

    Args:
        model: Whose activations.
        split: Curves go through the means of the fitting half, and energies are distances to the test half.
        site: Chosen beforehand, or on the selection half.
        concept: Name.
        seed: Of the other orders; see `paths`.

    Returns:
        Columns `THEORY_COLUMNS`.
    """
    fit, test = _classes(split.fit), _classes(split.test)
    if fit is None or test is None or set(fit.of) != set(test.of) or len(set(fit.of)) < 4:
        return tidy()
    rows, held_out = (extract(model, part, [site])[site].negative.double() for part in (split.fit, split.test))
    found = paths(rows, fit.of, held_out, closed=fit.closed, seed=seed)
    energies = [{"quantity": "path_energy", "setting": name, "value": value} for name, value in found.energy.items()]
    said = pd.DataFrame([*energies, {"quantity": "distortion", "setting": "", "value": found.distortion}])
    here: dict[str, Any] = {"model": model.name, "concept": concept, "site": site.hook_name, "layer": site.layer}
    return tidy(said.assign(n=len(held_out), **here))


def paths(
    rows: Float[Tensor, "n d_model"], classes: Codes, held_out: Float[Tensor, "m d_model"], *, closed: bool, seed: int
) -> Paths:
    """Mean energy of chords and geodesics between classes, and how much longer the geodesics are.

    The geodesic of two classes is the shorter way along the cubic spline through the means of all classes in their
    order, in the leading principal components of the rows; the chord is the straight line. The energy of a path is the
    mean over its points of the squared distance to the fifth nearest held-out row. Classes that merely differ also
    have rows near a curve through them: "other order" is the same curve through them in orders drawn at random.

    Args:
        rows: Activations.
        classes: The class of each, as numbers in their order.
        held_out: Activations of other groups.
        closed: Whether the last class is followed by the first.
        seed: Of the other orders.

    References:
        arXiv 2605.05115 (spline through means of classes in 64 principal components), known to us from notes.
    """
    U, _ = principal_subspace(moments(rows).cov, COMPONENTS)
    mean = rows.mean(dim=0)
    near, real = (((x - mean) @ U).numpy() for x in (rows, held_out))
    names, classes = np.unique(classes, return_inverse=True)
    k = len(names)
    means = np.stack([near[classes == c].mean(axis=0) for c in range(k)])
    rng = np.random.default_rng(seed)
    curve = _curve(means, closed)
    chords, along = _chords(means), _geodesics(curve, closed)
    others = [_geodesics(_curve(means[rng.permutation(k)], closed), closed) for _ in range(ORDERS)]
    energies = {
        "chord": _energy(chords, real),
        "geodesic": _energy(along, real),
        "other order": float(np.mean([_energy(o, real) for o in others])),
    }
    return Paths(energies, float((_lengths(along) / _lengths(chords)).mean()))


@final
@dataclass(frozen=True, eq=False)
class _Classes:
    """The class of each pair, and whether the last is followed by the first."""

    of: Codes
    closed: bool


def _classes(part: ConceptDataset) -> _Classes | None:
    """None for concepts without order."""
    if not all(isinstance(p.metadata.get("index"), int) for p in part):
        return None
    return _Classes(np.array([p.metadata["index"] for p in part], dtype=np.int64), "successor" in part[0].metadata)


def _curve(means: Array, closed: bool) -> CubicSpline:
    """Through the means in order, at 0, 1, 2, …"""
    through = np.vstack([means, means[:1]]) if closed else means
    return CubicSpline(np.arange(len(through)), through, bc_type="periodic" if closed else "natural")


def _chords(means: Array) -> Array:
    """Straight lines between all pairs of means, shape (path, point, component)."""
    t = np.linspace(0, 1, POINTS)[:, None]
    return np.stack([(1 - t) * means[i] + t * means[j] for i, j in combinations(range(len(means)), 2)])


def _geodesics(curve: CubicSpline, closed: bool) -> Array:
    """The way along the curve between all pairs of means; on a ring the shorter one."""
    k = len(curve.x) - closed
    found = []
    for i, j in combinations(range(k), 2):
        ways = [curve(np.linspace(i, j, POINTS))]
        if closed:
            ways.append(curve(np.linspace(i, j - k, POINTS)))
        found.append(min(ways, key=lambda way: float(_lengths(way[None])[0])))
    return np.stack(found)


def _lengths(of: Array) -> Array:
    """Length of each path."""
    lengths: Array = np.linalg.norm(np.diff(of, axis=1), axis=2).sum(axis=1)
    return lengths


def _energy(of: Array, real: Array) -> float:
    """Mean over paths and points of the squared distance to the fifth nearest row."""
    points = torch.from_numpy(of.reshape(-1, of.shape[2]))
    nearest = min(NEIGHBOUR, len(real))
    return float((torch.cdist(points, torch.from_numpy(real)).kthvalue(nearest, dim=1).values ** 2).mean())
