"""One synthetic comparison for all tests of reports: nothing here changes it."""

import pytest
from synthetic_comparison import make_comparison

from steerlens.evaluation import Comparison


@pytest.fixture(scope="session")
def comparison() -> Comparison:
    return make_comparison()
