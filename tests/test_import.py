"""Importing the package and asking for help are quick: the heavy libraries wait until they are needed."""

import subprocess
import sys

import pytest

import steerlens

HEAVY = ("torch", "transformers", "transformer_lens", "matplotlib", "pandas", "sklearn")


def loaded_by(code: str) -> list[str]:
    """The heavy modules that are loaded in a fresh interpreter after this code."""
    ask = f"import sys, time; start = time.monotonic()\n{code}\n"
    ask += "print(f'\\nseconds {time.monotonic() - start:.2f}')\n"
    ask += f"print('HEAVY', *[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    print(done.stdout)
    return done.stdout.splitlines()[-1].split()[1:]


def test_importing_the_package_loads_no_heavy_library():
    assert loaded_by("import steerlens") == []
    assert "torch" in loaded_by("import torch"), "the probe itself must see what is loaded"


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], []])
def test_help_loads_no_heavy_library(arguments: list[str]):
    code = f"sys.argv = ['steerlens', *{arguments!r}]\nfrom steerlens.cli import main\n"
    code += "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    assert loaded_by(code) == []


@pytest.mark.parametrize("name", steerlens.__all__)
def test_every_public_name_resolves_and_is_documented(name: str):
    assert getattr(steerlens, name).__doc__
    assert name in dir(steerlens)


def test_subpackages_are_attributes():
    assert steerlens.maps.MeanShift
    assert {"maps", "models", "reports", "errors"} <= set(dir(steerlens))


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'steer_harder'"):
        steerlens.steer_harder  # noqa: B018
