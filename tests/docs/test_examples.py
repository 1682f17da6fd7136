"""What we show to readers runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import steerlens
from steerlens.interventions import all_summaries

ROOT = Path(__file__).parents[2]
QUIET = os.environ | {"HF_HUB_OFFLINE": "1", "STEERLENS_PROGRESS": "0"}


def run(*args: str) -> str:
    done = subprocess.run([sys.executable, *args], capture_output=True, text=True, cwd=ROOT, env=QUIET, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.real
@pytest.mark.slow
def test_the_readme_s_example_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 2
    assert "Comparison" in run("-c", "\n".join(blocks))


@pytest.mark.slow
def test_the_example_map_runs():
    assert "Comparison" in run("examples/my_map.py")


@pytest.mark.real
@pytest.mark.slow
def test_a_rotation_advances_the_day_and_no_translation_does():
    """On the real model, at one block; the example has three, and the months."""
    sys.path.insert(0, str(ROOT / "examples"))
    import next_day

    found = next_day.advanced(steerlens.load_model("smollm2-135m-instruct"), "weekdays", 6)
    paired = [found.pop(name) for name in ("Procrustes", "PairedRidge")]
    assert min(e.low for e in paired) > 0.65
    assert max(e.high for e in found.values()) < 0.55
    assert {"unsteered", "MeanShift", "Monday to Tuesday", "random 0"} <= set(found)


def test_every_method_is_in_the_table_of_the_docs():
    page = (ROOT / "docs" / "maps.md").read_text("utf-8")
    for m in all_summaries():
        assert f"| `{m.name}` | {m.family} | {m.needs} | {m.reverse} | {m.assumes} |" in page, m.name


@pytest.mark.real
@pytest.mark.slow
def test_the_first_notebook_runs():
    code = (
        "import nbformat, nbclient; nb = nbformat.read('notebooks/01_first_steering.ipynb', 4); "
        "nbclient.NotebookClient(nb, timeout=600, kernel_name='python3').execute(); "
        "print(sum(c.cell_type == 'code' for c in nb.cells), 'cells ran')"
    )
    assert "cells ran" in run("-c", code)


@pytest.mark.slow
def test_the_second_notebook_reads_the_stored_study():
    code = (
        "import nbformat, nbclient; nb = nbformat.read('notebooks/02_which_rung.ipynb', 4); "
        "nbclient.NotebookClient(nb, timeout=600, kernel_name='python3').execute(); "
        "print(sum(c.cell_type == 'code' for c in nb.cells), 'cells ran')"
    )
    assert "cells ran" in run("-c", code)


def test_every_public_name_is_in_the_docs():
    docs = "\n".join(page.read_text("utf-8") for page in (ROOT / "docs").rglob("*.md"))
    missing = [name for name in steerlens.__all__ if f"`{name}" not in docs]
    assert not missing


def test_design_pages_say_problem_options_decision_and_consequences():
    pages = sorted((ROOT / "docs" / "design").glob("2*.md"))
    assert pages
    for page in pages:
        text = page.read_text("utf-8")
        for heading in ("Problem", "Options", "Decision", "Consequences"):
            assert f"## {heading}" in text, (page.name, heading)


def test_every_public_name_has_a_docstring():
    bare = [name for name in steerlens.__all__ if not (getattr(steerlens, name).__doc__ or "").strip()]
    assert not bare


def test_every_reference_in_a_docstring_is_in_the_bibliography():
    known = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "docs" / "references.bib").read_text("utf-8"), re.MULTILINE))
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "steerlens").rglob("*.py"))
    blocks = re.findall(r"References:\n((?:[ ]{8,}.*\n|\n)+)", sources)
    cited = set(re.findall(r"\b[a-z]+(?:19|20)\d\d\b", "".join(blocks)))
    assert cited
    assert cited <= known
