"""Importing costs next to nothing, and every public name is there."""

import subprocess
import sys

import pytest

import steerlens

HEAVY = ("torch", "transformer_lens", "transformers", "matplotlib", "pandas", "sklearn")


def loaded_after(code: str) -> list[str]:
    tail = f"; import sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return eval(done.stdout.splitlines()[-1])


def test_importing_loads_nothing_heavy():
    assert loaded_after("import steerlens") == []
    assert loaded_after("import torch") == ["torch"], "the probe itself must see what is loaded"


def test_the_command_line_s_help_loads_nothing_heavy():
    code = "import sys, steerlens.cli as c; sys.argv = ['steerlens', '--help']\ntry:\n c.main()\nexcept SystemExit: pass\n0"
    assert loaded_after(code) == []


def test_every_public_name_resolves_and_is_documented():
    for name in steerlens.__all__:
        assert getattr(steerlens, name).__doc__, name
    assert set(steerlens.__all__) <= set(dir(steerlens))


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'compere'"):
        _ = steerlens.compere
