"""Commands are run in this process, as the console script runs them."""

import sys

import pytest
from command_runs import Ran, Run

from steerlens.cli import main


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["steerlens", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return Ran(int(ended.value.code or 0), out, err)

    return call
