"""Extraction against a plain forward, and its independence of batches, caches and memory."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from steerlens.activations import (
    AllTokens,
    AnswerToken,
    LastToken,
    Site,
    SpanTokens,
    extract,
    extract_moments,
    joined_rows,
)
from steerlens.activations import _extract as implementation
from steerlens.activations._memory import shrinking_batches
from steerlens.concepts import ConceptDataset, ContrastivePair
from steerlens.errors import ActivationError, ArtefactError, ConceptError, OptionError, SiteError
from steerlens.models import tiny_model
from steerlens.numerics import moments

FAMILIES = ("gpt2", "llama", "gemma3", "qwen2")


@pytest.fixture(scope="module")
def dataset() -> ConceptDataset:
    things = ("film", "very long and winding book", "meal", "concert in the park", "bus")
    pairs = tuple(
        ContrastivePair(f"The {t} was", f" good{'!' * (i % 3)}", " really quite bad", group=t)
        for i, t in enumerate(things)
    )
    return ConceptDataset(name="toy", pairs=pairs, description="toy", source="tests", licence="CC0-1.0")


def all_sites(n_layers: int = 4) -> list[Site]:
    kinds = (Site.resid_pre, Site.resid_mid, Site.resid_post, Site.attn_out, Site.mlp_out)
    return [kind(layer) for layer in range(n_layers) for kind in kinds] + [Site.z(2, 1)]


def by_hand(model, text: str, site: Site) -> torch.Tensor:
    seen = {}
    model.read(text, [site.hook_name], lambda name, x: seen.update({name: x.clone()}))
    return seen[site.hook_name][0]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_site_is_what_one_text_alone_shows(family: str, dataset: ConceptDataset):
    model = tiny_model(family, dtype="float64")
    found = extract(model, dataset, all_sites())
    for site, activations in found.items():
        for i in (0, 1):
            for text, got in (
                (dataset[i].texts[0], activations.positive[i]),
                (dataset[i].texts[1], activations.negative[i]),
            ):
                row = by_hand(model, text, site)[-1]
                assert_close(got, row if site.head is None else row[site.head], rtol=0, atol=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts_of_a_block_add_up_to_its_output(family: str, dataset: ConceptDataset):
    found = extract(tiny_model(family, dtype="float64"), dataset, all_sites())

    def at(kind) -> torch.Tensor:
        return found[kind(2)].positive

    assert_close(at(Site.resid_pre) + at(Site.attn_out), at(Site.resid_mid), rtol=0, atol=1e-10)
    assert_close(at(Site.resid_mid) + at(Site.mlp_out), at(Site.resid_post), rtol=0, atol=1e-10)
    assert at(Site.mlp_out).norm() > 0.1


def test_batches_make_no_difference(dataset: ConceptDataset):
    model = tiny_model("llama", dtype="float64")
    sites = [Site.resid_post(3), Site.resid_post(1, AllTokens())]
    whole, single = (extract(model, dataset, sites, batch_tokens=n) for n in (10_000, 1))
    for site in sites:
        assert_close(whole[site].positive, single[site].positive, rtol=0, atol=1e-10)
        assert_close(whole[site].negative, single[site].negative, rtol=0, atol=1e-10)


def test_several_tokens_are_averaged_and_the_first_is_left_out(dataset: ConceptDataset):
    model = tiny_model("llama", dtype="float64")
    sites = [
        Site.resid_post(1, AllTokens()),
        Site.resid_post(1, SpanTokens(1, 3)),
        Site.resid_post(1, AnswerToken()),
    ]
    found = extract(model, dataset, sites)
    whole = by_hand(model, dataset[0].texts[0], sites[0])
    n_prompt = len(model.encode(dataset[0].prompt))
    for site, expected in zip(sites, (whole[1:].mean(0), whole[1:3].mean(0), whole[n_prompt]), strict=True):
        assert_close(found[site].positive[0], expected, rtol=0, atol=1e-10)


def test_one_forward_per_batch_serves_all_sites_and_both_classes(dataset: ConceptDataset, monkeypatch):
    model = tiny_model("llama")
    seen = []
    original = implementation._read_batch
    monkeypatch.setattr(
        implementation, "_read_batch", lambda m, rows, by: seen.append(len(rows)) or original(m, rows, by)
    )
    extract(model, dataset, all_sites())
    assert seen == [2 * len(dataset)]


def test_streamed_moments_are_those_of_the_rows(dataset: ConceptDataset):
    model = tiny_model("gpt2", dtype="float64")
    site = Site.resid_post(2)
    rows = extract(model, dataset, [site])[site]
    streamed = extract_moments(model, dataset, [site], batch_tokens=20)[site]
    for got, x in ((streamed.positive, rows.positive), (streamed.negative, rows.negative)):
        assert got.n == len(dataset)
        assert_close(got.mean, moments(x).mean)
        assert_close(got.cov, moments(x).cov)


def test_a_cached_site_is_not_computed_again(dataset: ConceptDataset, tmp_path: Path, monkeypatch):
    model = tiny_model("llama")
    sites = [Site.resid_post(2), Site.resid_post(2, AllTokens())]
    fresh = extract(model, dataset, sites)
    first = extract(model, dataset, sites, cache=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    assert not list(tmp_path.glob("*.partial"))
    monkeypatch.setattr(implementation, "_sweep", lambda *_: pytest.fail("computed again"))
    again = extract(model, dataset, sites, cache=tmp_path)
    for site in sites:
        for found in (first, again):
            assert torch.equal(found[site].positive, fresh[site].positive)
            assert torch.equal(found[site].negative, fresh[site].negative)


def test_the_cache_knows_model_data_site_and_dtype_apart(dataset: ConceptDataset, tmp_path: Path):
    site = Site.resid_post(2)
    extract(tiny_model("llama"), dataset, [site], cache=tmp_path)
    for model, data, where in (
        (tiny_model("llama", seed=1), dataset, site),
        (tiny_model("llama", dtype="float64"), dataset, site),
        (tiny_model("llama"), dataset[:4], site),
        (tiny_model("llama"), dataset, Site.resid_post(2, AllTokens())),
        (tiny_model("llama"), dataset, Site.resid_post(1)),
    ):
        before = len(list(tmp_path.glob("*.safetensors")))
        extract(model, data, [where], cache=tmp_path)
        assert len(list(tmp_path.glob("*.safetensors"))) == before + 1


def test_a_run_that_breaks_leaves_no_cache_entry(dataset: ConceptDataset, tmp_path: Path, monkeypatch):
    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(implementation, "_sweep", broken)
    with pytest.raises(KeyboardInterrupt):
        extract(tiny_model("llama"), dataset, [Site.resid_post(2)], cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_cache_entry_is_named(dataset: ConceptDataset, tmp_path: Path):
    model, site = tiny_model("llama"), Site.resid_post(2)
    extract(model, dataset, [site], cache=tmp_path)
    (entry,) = tmp_path.glob("*.safetensors")
    entry.write_bytes(b"nonsense")
    with pytest.raises(ArtefactError, match="damaged"):
        extract(model, dataset, [site], cache=tmp_path)


def test_batches_shrink_until_they_fit():
    done: list[int] = []

    def run(batch: list[int]) -> None:
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.extend(batch)

    shrinking_batches([4] * 20, run, tokens=80)
    assert sorted(done) == list(range(20))


def test_one_row_that_does_not_fit_is_an_error_and_other_errors_pass():
    def full(batch: list[int]) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    def wrong(batch: list[int]) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(ActivationError, match="single text of 4 tokens"):
        shrinking_batches([4, 4], full, tokens=80)
    with pytest.raises(RuntimeError, match="shapes"):
        shrinking_batches([4, 4], wrong, tokens=80)


def test_sites_that_do_not_fit_are_refused_before_any_forward(dataset: ConceptDataset):
    model = tiny_model("llama")
    for site, message in (
        (Site("blocks.0.hook_resid_pst"), "Closest: 'blocks.0.hook_resid_post'"),
        (Site.resid_post(9), "not a hook point"),
        (Site.z(1, 6), "heads 0 to 5"),
        (Site("blocks.1.attn.hook_z"), "needs a head"),
        (Site("blocks.1.hook_resid_post", LastToken(), 2), "has no heads"),
    ):
        with pytest.raises(SiteError, match=message):
            extract(model, dataset, [site])
    with pytest.raises(OptionError, match="at least one site"):
        extract(model, dataset, [])


def test_a_selector_without_tokens_is_an_error(dataset: ConceptDataset):
    with pytest.raises(SiteError, match="selects no token"):
        extract(tiny_model("llama"), dataset, [Site.resid_post(1, SpanTokens(400, 500))])


def test_activations_that_are_not_finite_name_their_site(dataset: ConceptDataset):
    model = tiny_model("llama")
    handle = model.hook_point("blocks.1.hook_resid_post").add_hook(lambda x, hook: x * torch.nan)
    try:
        with pytest.raises(ActivationError, match=r"blocks\.1\.hook_resid_post"):
            extract(model, dataset, [Site.resid_post(1)])
    finally:
        handle.hook.remove()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_texts_without_a_prompt_are_read_whether_or_not_there_is_a_bos(family: str):
    model = tiny_model(family)
    texts = ("Bread is warm.", "The river is cold and wide.")
    pairs = ConceptDataset("alone", (ContrastivePair("", *texts, "a"),))
    site = Site.resid_post(2, AllTokens())
    found = extract(model, pairs, [site])[site]
    for text, row in zip(texts, (found.positive[0], found.negative[0]), strict=True):
        assert_close(row, by_hand(model, text, site)[1:].mean(dim=0), atol=1e-5, rtol=1e-5)
    if not model.add_bos:
        with pytest.raises(ConceptError, match="Give every pair a prompt"):
            joined_rows(model, [""], [texts])
