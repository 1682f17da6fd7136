"""T14, T15 and T16 on the demo model: few heads, late maturity, prompt structure. Registered before anything is read.

python examples/theories_of_tasks.py FOLDER [MODEL ...]    goes on where it was stopped; about an hour on one core
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

import steerlens as sl
from steerlens import experiments as ex
from steerlens.concepts import task_names
from steerlens.evaluation import capability_questions
from steerlens.interventions import DoLa, candidate_layers
from steerlens.theories import judge_all, maturity_records, records_of, register, registrations, theory

SEED = 0
THEORIES = tuple(theory(name) for name in ("T14", "T15", "T16"))
COURSE = ex.OffCoursePlan(
    methods=("zero-shot", "few-shot", "function vector", "random heads"),
    n_test=30, n_dev=5, recipe=ex.VectorRecipe(n_patched=10), seed=SEED,
)  # fmt: skip
STRUCTURE = ex.PromptStructurePlan(strengths=(0.0, 1.0, 2.0), depths=(0.5,), n_test=24, n_heads=20, seed=SEED)


def few_heads(models: Sequence[ex.ModelLoader], folder: Path) -> pd.DataFrame:
    """The published function vector on every built-in task."""
    found = ex.off_course(models, task_names(), plan=COURSE, out=folder / "off-course")
    print(found.recovery().to_string(), found.notes.to_string(), sep="\n")
    return records_of(found)


def structure(models: Sequence[ex.ModelLoader], folder: Path) -> pd.DataFrame:
    """Antonyms in every form of prompt, with 20 heads in the middle block."""
    return records_of(ex.prompt_structure(models, "antonyms", plan=STRUCTURE, out=folder / "prompt-structure"))


def maturity(name: str) -> pd.DataFrame:
    """The bundled questions, with and without the contrast of late layers."""
    model = sl.load_model(name)
    contrast = DoLa(candidate_layers(model.n_layers, "high"))
    return maturity_records(model, capability_questions(), contrast, concept="capabilities", seed=SEED)


def main() -> None:
    """Register, measure what is not stored yet, and judge."""
    folder, names = Path(sys.argv[1]), sys.argv[2:] or ["smollm2-135m-instruct"]
    register(THEORIES, folder, when=datetime.now(UTC))
    models = ex.model_loaders(names, dtype="float32", device="cpu")
    mature = pd.concat([maturity(name) for name in names], ignore_index=True)
    records = {"T14": few_heads(models, folder), "T15": mature, "T16": structure(models, folder)}
    for name, frame in records.items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    for verdict in judge_all(THEORIES, records, registered=registrations(folder)):
        print(verdict, end="\n\n")


if __name__ == "__main__":
    main()
