"""Neutral text, on which steering should change nothing."""

import json
from importlib.resources import files


def neutral_texts() -> tuple[str, ...]:
    """Short factual passages written for this package, about everyday matters and without feeling."""
    lines = files("steerlens.evaluation").joinpath("data/neutral.jsonl").read_text("utf-8").splitlines()
    return tuple(json.loads(line)["text"] for line in lines if line.strip())
