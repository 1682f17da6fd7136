"""The hypotheses that come with steerlens, by id."""

import hashlib
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from steerlens.errors import OptionError, UnknownNameError
from steerlens.theories._hypothesis import Hypothesis
from steerlens.theories._t01_linear_representation import LinearRepresentation
from steerlens.theories._t02_affine_optimality import AffineOptimality
from steerlens.theories._t03_calibrated_dose import CalibratedDose
from steerlens.theories._t04_set_point import SetPoint
from steerlens.theories._t05_coherence import CoherenceTheory
from steerlens.theories._t06_local_direction import LocalDirection
from steerlens.theories._t07_norms_do_not_matter import NormsDoNotMatter
from steerlens.theories._t08_manifold import ManifoldTheory
from steerlens.theories._t09_output_alignment import OutputAlignment
from steerlens.theories._t10_detection_is_control import DetectionIsControl
from steerlens.theories._t11_suppression import SuppressionIsEasier
from steerlens.theories._t12_multiple_choice import MultipleChoiceIsAProxy
from steerlens.theories._t13_screening import ScreeningAtHome
from steerlens.theories._t14_few_heads import FewHeadsCarryATask
from steerlens.theories._t15_late_maturity import LateMaturity
from steerlens.theories._t16_prompt_structure import PromptStructure
from steerlens.theories._t17_removable_cost import RemovableCost
from steerlens.theories._t18_any_direction import AnyDirectionWorks
from steerlens.theories._t19_dataset_property import DatasetProperty
from steerlens.theories._t20_classifier_success import ClassifierSuccess

THEORIES: tuple[Hypothesis, ...] = (
    LinearRepresentation(),
    AffineOptimality(),
    CalibratedDose(),
    SetPoint(),
    CoherenceTheory(),
    LocalDirection(),
    NormsDoNotMatter(),
    ManifoldTheory(),
    OutputAlignment(),
    DetectionIsControl(),
    SuppressionIsEasier(),
    MultipleChoiceIsAProxy(),
    ScreeningAtHome(),
    FewHeadsCarryATask(),
    LateMaturity(),
    PromptStructure(),
    RemovableCost(),
    AnyDirectionWorks(),
    DatasetProperty(),
    ClassifierSuccess(),
)
"""T1 to T20, with their default margins."""


def theory_ids() -> tuple[str, ...]:
    """Ids that `theory` takes."""
    return tuple(h.id for h in THEORIES)


def theory(id_: str) -> Hypothesis:
    """A hypothesis by its id, such as ``T1``.

    Raises:
        UnknownNameError: If there is none of this id.
    """
    found = {h.id.lower(): h for h in THEORIES}
    if id_.lower() not in found:
        raise UnknownNameError("theory", id_, theory_ids())
    return found[id_.lower()]


def own_theory(reference: str) -> Hypothesis:
    """A hypothesis of your own, with its defaults: ``"my_theory.py:MyTheory"``. The file's code is run.

    Raises:
        OptionError: If there is no such file or class, it fails when it is run, or it is no hypothesis.
    """
    name, _, kind = reference.rpartition(":")
    path = Path(name)
    if not path.is_file():
        raise OptionError(
            f"{reference!r} names no file. Give a Python file and a class, such as my_theory.py:MyTheory."
        )
    module = "steerlens_own_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    spec = spec_from_file_location(module, path.resolve())
    if spec is None or spec.loader is None:
        raise OptionError(f"{name} is no Python file. Give one, such as my_theory.py:MyTheory.")
    found = module_from_spec(spec)
    sys.modules[module] = found
    try:
        spec.loader.exec_module(found)
        made = getattr(found, kind)()
    except AttributeError:
        there = [n for n, v in vars(found).items() if isinstance(v, type) and v.__module__ == module]
        raise OptionError(f"{name} has no class {kind!r}; it has {', '.join(there) or 'none'}.") from None
    except Exception as error:  # it is the user's code: say what it said
        raise OptionError(f"{reference} cannot be loaded: {type(error).__name__}: {error}.") from error
    if not isinstance(made, Hypothesis):
        raise OptionError(f"{reference} is no Hypothesis. See examples/my_theory.py.")
    return made
