"""Concepts of the planted models, with a known answer to what a steering map has to do."""

from steerlens.concepts import ConceptDataset, ContrastivePair, Metadata
from steerlens.models import planted_task


def planted_concept(name: str) -> ConceptDataset:
    """Pairs of prompts that the planted model of this name answers, each its own way.

    Source and target are the negative and the positive prompts; a map that carries one to the other makes the model
    give the positive prompt's answer to the negative one. Groups are words that do not matter to the answer. The
    metadata ``cell`` says what the negative prompt means: where different cells need different displacements, no
    translation does.

    Args:
        name: `"planted-linear"`, `"planted-xor"` or `"planted-cycle"`, as for `load_model`.

    Raises:
        UnknownNameError: There is no such planted model.
    """
    task = planted_task(name)
    pairs = (
        ContrastivePair(
            prompt=one.stem,
            positive=one.positive,
            negative=one.negative,
            group=one.filler,
            metadata=Metadata({"cell": ",".join(map(str, one.cell))}),
            answers=one.answers,
        )
        for one in task.contrasts
    )
    return ConceptDataset(
        name, tuple(pairs), description=f"{task.about} {task.geometry}", source="steerlens", licence="MIT"
    )
