"""What is at hand once a concept's layer is chosen: its texts, activations there, and the maps compared there."""

from dataclasses import dataclass
from typing import Any, final

from steerlens.activations import ContrastiveActivations, Site
from steerlens.concepts import Split
from steerlens.evaluation import Comparison, FittedMaps
from steerlens.maps import SteeringMethod, method_name
from steerlens.models import LensModel
from steerlens.numerics import Estimate
from steerlens.theories._hypothesis import Hypothesis
from steerlens.theories._study import TheoryStudy


@final
@dataclass(frozen=True, eq=False)
class ChosenSite:
    """One concept at its chosen layer.

    Args:
        model: What is steered.
        concept: Name.
        split: Fitting, selection and test pairs.
        study: What is asked.
        comparison: Of the methods at this site.
        methods: What was compared.
        maps: Of these, by site and name of the method.
        fit: Activations of the fitting pairs.
    """

    model: LensModel
    concept: str
    split: Split
    study: TheoryStudy
    comparison: Comparison
    methods: tuple[SteeringMethod, ...]
    maps: FittedMaps
    fit: ContrastiveActivations

    @property
    def site(self) -> Site:
        """Where all methods act."""
        return self.fit.site

    @property
    def here(self) -> dict[str, Any]:
        """Columns that tell which model, concept and layer a record is of."""
        name, layer = self.site.hook_name, self.site.layer
        return {"model": self.model.name, "concept": self.concept, "site": name, "layer": layer}

    def named(self, quantities: frozenset[str]) -> dict[str, SteeringMethod]:
        """Methods that hypotheses name beside some quantities and that were compared, by their whole names."""
        wanted = methods_beside(self.study.theories, quantities)
        compared = {method_name(m): m for m in self.methods}
        return {n: m for n, m in compared.items() if any(n == w or n.startswith(f"{w}(") for w in wanted)}

    def strength_at_budget(self, role: str) -> dict[str, float]:
        """Strength at which arms of a role meet the budget of KL; of those that never do, the one reported instead."""
        rows = self.comparison.records.query("split == 'test' and metric == 'effect_at_budget' and role == @role")
        return {str(m): float(s) for m, s in zip(rows["method"], rows["strength"], strict=True)}


def methods_beside(theories: tuple[Hypothesis, ...], quantities: frozenset[str]) -> tuple[str, ...]:
    """Names of the methods whose quantities hypotheses read, each once."""
    named = (q.method for h in theories for q in h.quantities.values() if q.name in quantities and q.method)
    return tuple(dict.fromkeys(named))


def ends(e: Estimate) -> dict[str, Any]:
    """An estimate in the columns of records."""
    return {"value": e.value, "low": e.low, "high": e.high, "level": e.level, "n": e.n}
