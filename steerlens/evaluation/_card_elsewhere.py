"""What a map does where it was not fitted: in other settings, and on the references themselves."""

from typing import Any

from steerlens.activations import Site
from steerlens.concepts import ConceptDataset, Instructions, open_ended_items, shifts
from steerlens.errors import ConceptError
from steerlens.evaluation._card import CardOpenEnded, CardShift
from steerlens.evaluation._open_ended import open_ended
from steerlens.evaluation._out_of_distribution import ood
from steerlens.evaluation._reliability import SLOPE_RANGE
from steerlens.interventions import Intervention
from steerlens.maps import SteeringMap
from steerlens.models import LensModel
from steerlens.numerics import Estimate

_NAME = "steered"


def card_shifts(
    model: LensModel,
    fitted: SteeringMap,
    test: ConceptDataset,
    site: Site,
    strengths: tuple[float, ...],
    said: tuple[str, str] | None,
    seed: int,
) -> tuple[CardShift, ...]:
    """Steerability in every standard setting but the first, which is home; none without instructions."""
    if said is None:
        return ()
    settings = shifts(test, seed=seed, said=Instructions(*said))
    found = ood(model, fitted, settings, site, [s for s in strengths if abs(s) <= SLOPE_RANGE], seed=seed)
    home = next(iter(settings))
    return tuple(
        CardShift(
            setting=str(row["tested_on"]),
            slope=_estimate(row, "steerability"),
            retained=_estimate(row, "retained") if row["retained"] == row["retained"] else None,
            correlation=_estimate(row, "correlation") if row["correlation"] == row["correlation"] else None,
        )
        for _, row in found.frame.iterrows()
        if row["tested_on"] != home
    )


def card_open_ended(
    model: LensModel, intervention: Intervention, test: ConceptDataset, seed: int
) -> CardOpenEnded | None:
    """Promotion and suppression of the test pairs' references.

    None where pairs are no open items, or where nothing predicts the first token of one: whole texts without BOS.
    """
    try:
        items = open_ended_items(test)
    except ConceptError:
        return None
    if not model.add_bos and any(not item.prompt for item in items):
        return None
    frame = open_ended(model, items, {_NAME: intervention}, seed=seed, shares=(0.25, 1.0)).frame
    raw = frame[frame["form"] == "raw"]
    said = {
        (quantity, share): _row(raw[(raw["quantity"] == quantity) & (raw["share"] == share)].iloc[0])
        for quantity in ("promotion", "suppression")
        for share in (0.25, 1.0)
    }
    return CardOpenEnded(
        promotion=said["promotion", 0.25],
        suppression=said["suppression", 0.25],
        promotion_all=said["promotion", 1.0],
        suppression_all=said["suppression", 1.0],
    )


def _estimate(row: Any, name: str) -> Estimate:
    low, high = float(row[f"{name}_low"]), float(row[f"{name}_high"])
    n, clusters = int(row["n"]), int(row["n_clusters"])
    return Estimate(float(row[name]), low, high, float(row["level"]), n, clusters, "cluster bootstrap")


def _row(row: Any) -> Estimate:
    return Estimate(
        float(row["value"]), float(row["low"]), float(row["high"]), float(row["level"]), int(row["n"]),
        int(row["n_clusters"]), str(row["interval"]),
    )  # fmt: skip
