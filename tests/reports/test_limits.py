"""What a page says that it does not show agrees with what it shows."""

import dataclasses

import pandas as pd
import pytest
from synthetic_comparison import make_comparison

from steerlens.evaluation import Comparison
from steerlens.reports._limits import limits
from steerlens.reports._tables import headline_table


@pytest.fixture
def found() -> Comparison:
    return make_comparison()


def said_of(found: Comparison) -> str:
    return " ".join(limits(found))


def test_prompting_is_unmeasured_only_where_no_prompt_was_measured(found: Comparison):
    row = found.records.iloc[[0]].assign(role="text", family="text", method="prompt: Be kind.", site="", layer=-1)
    prompted = dataclasses.replace(found, records=pd.concat([found.records, row], ignore_index=True))
    assert "prompting as a rival" in said_of(found)
    assert "prompting as a rival" not in said_of(prompted)
    assert "effects on other concepts" in said_of(prompted)
    assert "in its own format" in said_of(prompted)
    assert "in its own format" not in said_of(found)
    chat = row.assign(method="prompt: Be kind., in chat format")
    both = dataclasses.replace(found, records=pd.concat([prompted.records, chat], ignore_index=True))
    assert "in its own format" not in said_of(both)


def test_one_site_is_chosen_for_all_methods(found: Comparison):
    several = dataclasses.replace(found, headline=found.headline.assign(n_tried=3))
    assert "All methods stand at one site of 3" in said_of(several)
    assert "mean effect" in said_of(several)
    assert "best of" not in said_of(several) + headline_table(several)
    assert "One site was tried" in said_of(dataclasses.replace(found, headline=found.headline.assign(n_tried=1)))
