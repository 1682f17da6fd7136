"""Selectors by hand, on a row padded left and the same row padded right."""

import pytest
import torch

from steerlens.activations import (
    AllTokens,
    AnswerToken,
    FromIndex,
    LastToken,
    PromptEnd,
    PromptTokens,
    Site,
    SpanTokens,
)
from steerlens.errors import OptionError, SiteError

# Five real tokens, the first three of them prompt; two columns of padding.
LEFT = torch.tensor([[-1, -1, 0, 1, 2, 3, 4]])
RIGHT = torch.tensor([[0, 1, 2, 3, 4, -1, -1]])
N_PROMPT = torch.tensor([3])

CASES = [
    (LastToken(), [4], [2, 3, 4]),
    (AllTokens(), [1, 2, 3, 4], [1, 2, 3, 4]),
    (PromptTokens(), [1, 2], [1, 2]),
    (PromptEnd(), [2], [2]),
    (AnswerToken(), [3], [3, 4]),
    (FromIndex(0), [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
    (FromIndex(3), [3, 4], [3, 4]),
    (SpanTokens(1, 3), [1, 2], [1, 2]),
]


@pytest.mark.parametrize(("selector", "read", "written"), CASES, ids=lambda x: repr(x))
def test_a_selector_means_the_same_tokens_on_either_side(selector, read, written):
    for index in (LEFT, RIGHT):
        assert index[selector.read(index, N_PROMPT)].tolist() == read
        assert index[selector.write(index, N_PROMPT)].tolist() == written


def test_one_new_token_behind_a_cache_is_judged_by_its_absolute_position():
    fresh = torch.tensor([[3]])
    assert LastToken().write(fresh, N_PROMPT).all()
    assert AnswerToken().write(fresh, N_PROMPT).all()
    assert not PromptTokens().write(fresh, N_PROMPT).any()
    assert not PromptEnd().write(fresh, N_PROMPT).any()
    assert not FromIndex(4).write(fresh, N_PROMPT).any()


def test_selectors_that_make_no_sense_are_refused():
    for build in (lambda: FromIndex(-1), lambda: SpanTokens(3, 3), lambda: SpanTokens(-1, 2)):
        with pytest.raises(OptionError):
            build()


def test_sites_are_values():
    assert Site.resid_post(3) == Site("blocks.3.hook_resid_post", LastToken())
    assert len({Site.resid_post(3), Site.resid_post(3), Site.resid_post(3, AllTokens())}) == 2
    assert Site.z(2, 1).layer == 2
    with pytest.raises(OptionError, match="from 0"):
        Site.resid_pre(-1)
    with pytest.raises(SiteError, match="in no block"):
        _ = Site("ln_final.hook_normalized").layer
