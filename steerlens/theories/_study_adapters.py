"""Tidy records of studies of in-context tasks: levels of prompts and function vectors, and the form of the prompt."""

import pandas as pd

from steerlens.experiments import OffCourse
from steerlens.experiments import PromptStructure as PromptStructureStudy
from steerlens.theories._t14_few_heads import FIVE, RANDOM, VECTOR, ZERO

OF_VECTORS = {"function vector": ("method", "FunctionVector"), "random heads": ("random", "random heads")}
"""Role and method of the vectors of a study of prompt structure."""


def of_off_course(found: OffCourse) -> pd.DataFrame:
    """Accuracy of every method on every task of every model; a task is a concept, and the method its setting.

    Few-shot prompts are called by the number of their examples, so that three are not taken for five. Of random heads
    the draws are averaged, word by word.
    """
    if found.items.empty:
        return pd.DataFrame({"value": []})
    shots = found.plan.n_shots
    names = {"zero-shot": ZERO, "few-shot": FIVE if shots == 5 else f"{shots}-shot", "function vector": VECTOR,
             "random heads": RANDOM}  # fmt: skip
    table = found.recovery()
    kept = table[["model", "value", "low", "high", "n"]]
    setting = table["method"].map(lambda name: names.get(name, name))
    return kept.assign(quantity="accuracy", concept=table["task"], setting=setting, level=0.95)


def of_prompt_structure(found: PromptStructureStudy) -> pd.DataFrame:
    """Change of the answer's log-probability by a dose, word by word; the condition is the setting.

    Only of models of which every condition was measured. Strength 0, from which changes are counted, has no rows. Every
    layer of the study is there; keep one before judging.
    """
    items = found.items[found.items["model"].isin(found.models)]
    if items.empty:
        return pd.DataFrame({"value": []})
    cell = ["model", "vector", "condition", "distractors", "layer", "input"]
    before = items[items["strength"] == 0].set_index(cell)["log_prob"]
    after = items[items["strength"] != 0].join(before.rename("before"), on=cell)
    role, method = (after["vector"].map(lambda kind, i=i: OF_VECTORS[kind][i]) for i in (0, 1))
    return pd.DataFrame(
        {
            "model": after["model"], "concept": found.task, "role": role, "method": method, "layer": after["layer"],
            "strength": after["strength"], "setting": after["condition"], "context": after["distractors"],
            "group": after["group"], "quantity": "effect", "value": after["log_prob"] - after["before"], "n": 1,
        }
    )  # fmt: skip
