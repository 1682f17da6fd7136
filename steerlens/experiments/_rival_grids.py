"""Function vectors and in-context vectors over their grids: what the bottom-up study chooses among."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import final

from steerlens.errors import OptionError, UnknownNameError
from steerlens.experiments._fitted_vectors import TaskMeans, VectorRecipe, blocks_at
from steerlens.interventions import Candidate, Intervention, function_vector, in_context_vectors, random_head_vector
from steerlens.models import LensModel

FUNCTION, IN_CONTEXT = "function vector", "in-context vectors"
RANDOM, EXCHANGED = "random heads", "exchanged pairs"
"""Controls: as many other heads at the same setting and of the same length; in-context vectors at the same setting,
fitted to pairs of which every second one is the other way round."""

LAYER_SUBSETS: Mapping[str, Callable[[int], range]] = MappingProxyType(
    {
        "all": range,
        "first": lambda n: range(n // 3),
        "middle": lambda n: range(n // 3, n - n // 3),
        "last": lambda n: range(n - n // 3, n),
    }
)
"""Blocks of a model of n blocks: all of them, and their thirds."""


@final
@dataclass(frozen=True)
class BottomUpPlan:
    """What `bottom_up` measures.

    Args:
        function_strengths: Of function vectors.
        depths: Their blocks, as shares of the depth.
        n_heads: Heads in them; as `steerlens.interventions.function_vector` has it if None.
        variants: Of in-context vectors; ``"code"``, ``"paper"``, or both.
        subsets: Layers that in-context vectors act at: some of `LAYER_SUBSETS`.
        vector_strengths: Of in-context vectors.
        n_demonstrations: Pairs that they are fitted on, at most; published are 5 to 150.
        n_shuffled: Examples of the shuffled condition.
        n_test: Words or pairs that are tested on, at most.
        n_dev: Those that settings are chosen on, at most.
        recipe: From which prompts function vectors are made.
        seed: Of splits, examples, draws and intervals.

    Raises:
        OptionError: A grid is empty, or a number is out of its range.
        UnknownNameError: There is no such subset of layers.
    """

    function_strengths: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    depths: tuple[float, ...] = (0.2, 1 / 3, 0.5)
    n_heads: int | None = None
    variants: tuple[str, ...] = ("code", "paper")
    subsets: tuple[str, ...] = tuple(LAYER_SUBSETS)
    vector_strengths: tuple[float, ...] = (0.7, 1.0, 1.5, 3.0)
    n_demonstrations: int = 50
    n_shuffled: int = 3
    n_test: int = 50
    n_dev: int = 20
    recipe: VectorRecipe = field(default_factory=VectorRecipe)
    seed: int = field(kw_only=True)

    def __post_init__(self) -> None:
        for name in ("function_strengths", "variants", "subsets", "vector_strengths"):
            if not getattr(self, name):
                raise OptionError(f"{name} of a plan must hold something, but is empty.")
        for subset in self.subsets:
            if subset not in LAYER_SUBSETS:
                raise UnknownNameError("subset of layers", subset, LAYER_SUBSETS)
        if min(self.n_test, self.n_dev) < 5 or min(self.n_demonstrations, self.n_shuffled) < 2:
            raise OptionError(
                "Expected n_test and n_dev of 5 or more, and n_demonstrations and n_shuffled of 2 or more, but got "
                f"{self.n_test}, {self.n_dev}, {self.n_demonstrations} and {self.n_shuffled}."
            )


def function_candidates(model: LensModel, means: TaskMeans, plan: BottomUpPlan) -> list[Candidate]:
    """Function vectors at every block and strength of the plan."""
    assert means.effects is not None
    return [
        Candidate(
            {"layer": layer, "strength": s},
            Intervention(function_vector(model, means.effects, means.heads, n_heads=plan.n_heads, layer=layer).plan, s),
        )
        for layer in blocks_at(model, plan.depths)
        for s in plan.function_strengths
    ]


def random_rival(model: LensModel, means: TaskMeans, plan: BottomUpPlan, chosen: Candidate) -> Intervention:
    """As many other heads, as long, at the setting that was chosen."""
    assert means.effects is not None
    layer, strength = int(chosen.settings["layer"]), float(chosen.settings["strength"])
    vector = function_vector(model, means.effects, means.heads, n_heads=plan.n_heads, layer=layer)
    other = random_head_vector(model, means.heads, vector, seed=plan.seed).as_long_as(vector)
    return Intervention(other.plan, strength)


def vector_candidates(
    model: LensModel, demonstrations: Sequence[tuple[str, str]], plan: BottomUpPlan
) -> list[Candidate]:
    """In-context vectors of every variant, subset of layers and strength of the plan.

    Settings number variants and subsets as the plan names them.
    """
    found = []
    for v, variant in enumerate(plan.variants):
        whole = in_context_vectors(model, demonstrations, variant=variant).plan
        for k, subset in enumerate(plan.subsets):
            layers = set(LAYER_SUBSETS[subset](model.n_layers))
            here = {site: acting for site, acting in whole.items() if site.layer in layers}
            found += [
                Candidate({"variant": v, "subset": k, "strength": s}, Intervention(here, s))
                for s in plan.vector_strengths
                if here
            ]
    return found


def exchanged_rival(
    model: LensModel, demonstrations: Sequence[tuple[str, str]], plan: BottomUpPlan, chosen: Candidate
) -> Intervention:
    """The setting that was chosen, fitted to pairs of which every second one is the other way round."""
    turned = [(y, x) if i % 2 else (x, y) for i, (x, y) in enumerate(demonstrations)]
    return next(c.intervention for c in vector_candidates(model, turned, plan) if c.settings == chosen.settings)


def function_setting(chosen: Candidate) -> str:
    """In words."""
    return f"block {chosen.settings['layer']}, strength {chosen.settings['strength']:g}"


def vector_setting(chosen: Candidate, plan: BottomUpPlan) -> str:
    """In words."""
    s = chosen.settings
    variant, subset = plan.variants[int(s["variant"])], plan.subsets[int(s["subset"])]
    return f"{variant}, {subset} layers, strength {s['strength']:g}"
