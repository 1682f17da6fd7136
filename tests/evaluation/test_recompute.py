"""Every estimate of the test half, again, from what a comparison stores and with pandas alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from steerlens.activations import Site
from steerlens.concepts import ChatFormat, ConceptDataset, ContrastivePair
from steerlens.evaluation import Comparison, TextSet, compare, neutral_texts
from steerlens.interventions import LoraFinetune
from steerlens.maps import DirectionalAblation, MeanShift, Training
from steerlens.models import tiny_model

THINGS = (
    "film", "book", "song", "meal", "hotel", "garden", "shoe", "lamp", "chair", "coat", "city", "river",
    "road", "house", "train", "horse", "bread", "apple", "school", "letter",
)  # fmt: skip
CHAT = ChatFormat(before_system="<s>", after_system="</s>\n<u>", before_user="<u>", after_user="</u>\n")
TEXTS = TextSet(neutral_texts()[:22], (*(f"d{i // 2}" for i in range(22)),))
ARM = ["role", "arm", "strength"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    # Continuations of different lengths, so that a mean over tokens is no multiple of the sum.
    pairs = tuple(ContrastivePair(f"The {t} is", " good", " quite unbearably bad", t) for t in THINGS)
    fit, select, test = ConceptDataset("made up", pairs).split(seed=0, fractions=(0.4, 0.3, 0.3))
    found = compare(
        tiny_model("llama"), fit, test, site=Site.resid_post(1), select=select,
        methods=[MeanShift(), DirectionalAblation()],
        strengths=(-1.0, 0.0, 1.0, 2.0), budget=0.01, n_random=2, neutral=TEXTS, instructions=("Praise.", "Blame."),
        chat=CHAT, finetune=LoraFinetune(training=Training(steps=2)), seed=1,
    )  # fmt: skip
    return found.save(tmp_path_factory.mktemp("comparison"))


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(folder / f"{name}.parquet")


def change(values: pd.Series) -> pd.Series:
    """Of each arm and strength, what it is above the same arm at strength 0."""
    zero = values.xs(0.0, level="strength")
    return values - zero.reindex(values.index.droplevel("strength")).to_numpy()


@pytest.fixture(scope="module")
def again(folder: Path) -> pd.DataFrame:
    """All means, recomputed; one row for each role, arm and strength, one column for each metric."""
    items, texts, moves = (table(folder, n) for n in ("items", "texts", "displacements"))
    items = items.assign(
        propensity=items["positive"] - items["negative"],
        per_token=items["positive"] / items["n_positive"] - items["negative"] / items["n_negative"],
    ).groupby(ARM)[["propensity", "per_token"]].mean()  # fmt: skip
    sums = texts.groupby(ARM)[["kl", "nll", "n_tokens"]].sum()
    moved = moves.groupby(ARM)[["moved", "norm"]].sum()
    return pd.DataFrame(
        {
            "propensity": items["propensity"],
            "effect": change(items["propensity"]),
            "effect_per_token": change(items["per_token"]),
            "kl": sums["kl"] / sums["n_tokens"],
            "perplexity_ratio": np.exp(change(sums["nll"] / sums["n_tokens"])),
            "displacement": moved["moved"] / moved["norm"],
        }
    )


def test_every_estimate_at_a_strength_follows_from_the_stored_rows(folder: Path, again: pd.DataFrame):
    records = table(folder, "records")
    # A prompt's three rows stand under one role in the records, and under three in the items.
    roles = again.reset_index("role")["role"].groupby(level=["arm", "strength"]).first()
    seen: dict[str, set[str]] = {}
    at_strengths = ~records["metric"].isin(["effect_at_budget", "area", "unmoved"])
    for r in records[(records["split"] == "test") & at_strengths].itertuples():
        role = roles[r.method, r.strength]
        seen.setdefault(r.metric, set()).add(role)
        metric = "effect" if r.metric == "effect_at_best" else r.metric
        assert again.loc[(role, r.method, r.strength), metric] == pytest.approx(r.value, rel=1e-6, abs=1e-9), r
    said = {"prompt", "opposite prompt", "few-shot"}
    everything = {"method", "random", "permuted", "wrong layer", "neutral direction", "fine-tuned"} | said
    assert seen == {
        "effect": everything, "kl": everything, "propensity": {"method"} | said,
        "effect_per_token": {"method"} | said, "perplexity_ratio": {"method", "fine-tuned"} | said,
        "displacement": {"method"}, "effect_at_best": {"method"},
    }  # fmt: skip


def test_every_effect_at_the_budget_follows_from_the_stored_rows(folder: Path, again: pd.DataFrame):
    records, head = table(folder, "records"), table(folder, "headline").set_index("method")
    doses = table(folder, "doses").set_index(["role", "method"])
    at = records[(records["metric"] == "effect_at_budget") & (records["split"] == "test")]
    assert {"method", "random", "fine-tuned"} <= set(at["role"])
    for r in at.itertuples():
        own = again.loc[(r.role, r.method)].loc[0.0:]
        if r.role == "fine-tuned":
            effect = between(own)
        else:
            strength = doses.loc[(r.role, r.method), "strength"]
            effect = own.loc[strength, "effect"]
            assert doses.loc[(r.role, r.method), "kl"] == pytest.approx(own.loc[strength, "kl"], rel=1e-6)
        assert effect == pytest.approx(r.value, rel=1e-6, abs=1e-9)
        if r.role == "method":
            assert head.loc[r.method, "displacement"] == pytest.approx(own.loc[strength, "displacement"], rel=1e-6)
            assert head.loc[r.method, "kl"] == pytest.approx(own.loc[strength, "kl"], rel=1e-6)


def test_the_best_strength_is_chosen_on_the_selection_half_and_measured_on_the_other(folder: Path):
    records, found = table(folder, "records"), Comparison.load(folder).best_doses.set_index("method")
    methods = records[(records["role"] == "method") & (records["metric"] == "effect")]
    site = records.loc[records["metric"] == "effect_at_best", "site"].unique()
    assert len(site) == 1
    assert set(found.index) == set(table(folder, "headline")["method"])
    for name, best in found.iterrows():
        own = methods[(methods["method"] == name) & (methods["site"] == site[0])]
        select, test = (own[own["split"] == split].set_index("strength")["value"] for split in ("select", "test"))
        assert best["strength"] == select.idxmax()
        assert best["effect"] == pytest.approx(test[best["strength"]])
        assert best["low"] <= best["effect"] <= best["high"]


def between(own: pd.DataFrame, budget: float = 0.01) -> float:
    """Where KL, a power of strength, first meets the budget, with the effect on a straight line between two doses."""
    over = own.index[own["kl"] >= budget]
    if len(over) == 0:
        return float(own["effect"].iloc[-1])
    k = own.index.get_loc(over[0])
    (s0, low), (s1, high) = ((own.index[i], own.iloc[i]) for i in (k - 1, k))
    power = np.log(high["kl"] / low["kl"]) / np.log(s1 / s0) if low["kl"] > 0 and s0 > 0 else 2.0
    strength = s1 * (budget / high["kl"]) ** (1 / power)
    return float(low["effect"] + (strength - s0) / (s1 - s0) * (high["effect"] - low["effect"]))


def test_areas_and_unmoved_shares_follow_from_the_stored_rows(folder: Path, again: pd.DataFrame):
    records, items = table(folder, "records"), table(folder, "items")
    areas = records[records["metric"] == "area"]
    assert set(areas["role"]) == {"method", "random"}
    for r in areas.itertuples():
        own = again.loc[(r.role, r.method)].loc[0.0:]
        budgets = (np.arange(2000) + 0.5) * 0.01 / 2000
        frontier = [max(0.0, between(own, b), *own.loc[own["kl"] <= b, "effect"]) for b in budgets]
        assert np.mean(frontier) == pytest.approx(r.value, rel=2e-3, abs=1e-9)
    unmoved = records[records["metric"] == "unmoved"].set_index("method")["value"]
    assert len(unmoved) == 2
    for name, share in unmoved.items():
        own = items[(items["role"] == "method") & (items["arm"] == name) & (items["strength"].between(-1, 1))]
        m = own.assign(m=own["positive"] - own["negative"]).pivot(index="question", columns="strength", values="m")
        m, s = m[[c for c in (-1.0, 0.0, 1.0) if c in m]], np.array([c for c in (-1.0, 0.0, 1.0) if c in m])
        slope = (m @ (s - s.mean())) / ((s - s.mean()) ** 2).sum()
        off = 5e-5 * np.abs(s - s.mean()).sum() / ((s - s.mean()) ** 2).sum()
        assert share == pytest.approx((slope.abs() <= off).mean())


def test_a_rival_in_chat_format_stands_beside_the_plain_one(folder: Path):
    records = table(folder, "records")
    names = list(records[records["role"] == "text"]["method"].unique())
    plain = ["prompt: Praise.", "prompt: Blame.", "4-shot"]
    assert names == [*plain, *(f"{n}, in chat format" for n in plain)]
    effect = records[(records["role"] == "text") & (records["metric"] == "effect")].set_index("method")["value"]
    assert all(effect[n] != effect[f"{n}, in chat format"] for n in plain)
    assert "before_system='<s>'" in Comparison.load(folder).provenance.settings["chat"]


def test_tokens_and_clusters_are_stored(folder: Path):
    items, texts, moves = (table(folder, n) for n in ("items", "texts", "displacements"))
    assert (items["n_negative"] > items["n_positive"]).all()
    assert set(texts["document"]) == {f"d{i}" for i in range(1, 11, 2)}
    records = table(folder, "records")
    d = records[records["metric"] == "displacement"].iloc[0]
    assert moves["group"].nunique() == d["n_clusters"]
