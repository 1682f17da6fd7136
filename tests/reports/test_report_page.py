"""The page: complete, escaped, the same every time, and every number with its interval."""

import re
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_comparison import make_comparison

from steerlens.errors import ArtefactError, OptionError
from steerlens.evaluation import Comparison, Generation
from steerlens.reports import comparison_html, write_report
from steerlens.reports._numbers import bounds, decimals_for, estimate, number, percent

ATTACK = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def written(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(comparison, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def text(written: Path) -> str:
    return written.read_text("utf-8")


class Outline(HTMLParser):
    """Tags that are never closed, ids, and headings in order."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):  # type: ignore[no-untyped-def]
        self.tags.append(tag)
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):  # type: ignore[no-untyped-def]
        self.tags.append(tag)
        self.ids += [v for k, v in attrs if k == "id"]

    def handle_endtag(self, tag):  # type: ignore[no-untyped-def]
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def plain(html: str) -> str:
    """Text of the page without tags, its spaces made one."""
    without = re.sub(r"<[^>]+>", " ", html.replace("&nbsp;", " "))
    return re.sub(r"\s+", " ", without)


def test_every_headline_number_is_in_the_table_with_its_interval(comparison: Comparison, text: str) -> None:
    table = text[text.index('<table class="headline') :]
    rows = {m: plain(r) for r in table.split("<tr ")[2:6] for m in comparison.headline["method"] if f"<b>{m}<" in r}
    assert len(rows) == 4
    for _, r in comparison.headline.iterrows():
        row = rows[r["method"]].replace(" †", "")
        for name in ("effect", "steerability", "perplexity_ratio"):
            assert estimate(r[name], r[f"{name}_low"], r[f"{name}_high"]) in row
        for name in ("anti_slope", "anti_unit"):
            assert percent(r[name], r[f"{name}_low"], r[f"{name}_high"]) in row
        assert bounds(r["random_low"], r["random_high"], decimals_for(r["random_high"] - r["random_low"])) in row
        assert f"z {number(r['z'], 1, signed=True)}, n = 20" in row
        assert f"layer {r['layer']}, chosen from 3 sites" in row
        assert "40 12 groups" in row
        low, high = 0.07 * r["strength"], 0.09 * r["strength"]
        assert estimate(r["displacement"], low, high) in row


def test_the_page_keeps_the_promised_order_and_is_well_formed(text: str) -> None:
    outline = Outline(text)
    assert outline.wrong == []
    assert outline.open == []
    order = ["answer", "made-from", "numbers", "figures", "examples", "limits", "repeat"]
    assert [i for i in outline.ids if i in order] == order
    assert outline.tags.count("h1") == 1
    assert outline.tags.count("caption") == 1 + 2
    assert '<html lang="en">' in text


def test_the_page_is_complete_in_itself(text: str) -> None:
    assert "<script" not in text
    assert "<link" not in text
    assert not re.search(r'(?:src|href)="(?!#)', text.replace("xlink:href", "href"))
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text


def test_the_page_forbids_scripts_and_requests(text: str) -> None:
    head = text[: text.index("</head>")]
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\';' in head


def test_ids_do_not_collide_and_references_resolve(text: str) -> None:
    ids = Outline(text).ids
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text))
    assert {a or b for a, b in used} <= set(ids)


def test_figures_have_text_alternatives_and_take_colours_from_the_page(text: str) -> None:
    drawings = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    assert len(drawings) == 2 * 6
    for drawing in drawings:
        assert 'role="img"' in drawing
        assert re.search(r"<title id=[^>]+>[^<]+</title><desc id=[^>]+>[^<]+</desc>", drawing)
        assert "var(--ink)" in drawing
        assert not re.search(r"(?:fill|stroke): ?#", drawing)
        assert "font-family" not in drawing
        assert "<style" not in drawing


def test_the_figures_are_also_files(written: Path) -> None:
    names = {p.name for p in (written.parent / "figures").iterdir()}
    assert {"propensity-curves.svg", "effect-against-kl.png", "steerability.svg"} <= names
    assert len(names) == 12


@pytest.mark.slow
def test_the_same_comparison_gives_the_same_bytes(written: Path, tmp_path: Path) -> None:
    again = write_report(make_comparison(), tmp_path)
    for path in sorted(written.parent.rglob("*")):
        if path.is_file():
            assert (again.parent / path.relative_to(written.parent)).read_bytes() == path.read_bytes(), path.name


@pytest.mark.slow
def test_everything_from_models_and_data_is_escaped(tmp_path: Path) -> None:
    c = make_comparison()
    for frame in (c.headline, c.records, c.items, c.contrasts):
        for column in {"method", "reference", "arm"} & set(frame.columns):
            frame[column] = frame[column].replace("MeanShift", f"{ATTACK}&method")
        if "family" in frame.columns:
            frame["family"] = frame["family"].replace("nonlinear", f'"{ATTACK}')
        if "site" in frame.columns:
            frame["site"] = frame["site"].replace("blocks.8.hook_resid_post", f'">{ATTACK}')
    p = c.provenance
    attacked = replace(
        c,
        provenance=replace(
            p,
            question=ATTACK,
            command=f"run {ATTACK} $HOME ${{x}}",
            model=dict(p.model) | {"name": ATTACK},
            concept=dict(p.concept) | {"name": ATTACK, ATTACK: ATTACK},
            settings={"list": [ATTACK], "map": {ATTACK: ATTACK}},
            environment=dict(p.environment) | {"steerlens": f'"{ATTACK}', "date": ATTACK},
        ),
        generations=(
            Generation(ATTACK, ATTACK, 3, 0.0, ATTACK),
            Generation(ATTACK, ATTACK, 3, 1.0, f"$x {ATTACK}"),
        ),
    )
    for html in (write_report(attacked, tmp_path).read_text("utf-8"), comparison_html(attacked)):
        assert "<script" not in html
        assert escape(ATTACK) in html
        outline = Outline(html)
        assert outline.wrong == []
        assert outline.open == []
    page = (tmp_path / "report.html").read_text("utf-8")
    assert f"$x {escape(ATTACK)}" in page
    assert "$HOME ${x}" in page


def test_areas_and_unmoved_questions_are_said_where_they_are_stored(comparison: Comparison, text: str, tmp_path: Path):
    assert "Area under the frontier" not in text
    assert "unmoved" not in text
    own = comparison.records[(comparison.records["split"] == "test") & (comparison.records["metric"] == "effect")]
    one = own.groupby(["role", "method", "site"], as_index=False).first()
    low = np.where(one["role"] == "random", np.linspace(0.1, 0.3, len(one)), 1.25)
    areas = one.assign(metric="area", value=low, low=low - 0.25, high=low + 0.25)
    share = one["method"].map({"DirectionalAblation": 0.125}).fillna(0.0)
    unmoved = one[one["role"] == "method"].assign(metric="unmoved", value=share, low=0.0, high=0.3)
    stored = pd.concat([comparison.records, areas, unmoved], ignore_index=True)
    html = write_report(replace(comparison, records=stored), tmp_path).read_text("utf-8")
    caption = plain(html[html.index('id="effect-against-kl"') :].split("<figcaption>")[1].split("</figcaption>")[0])
    assert "MeanShift 1.25 [1.00, 1.50]" in caption
    null = areas.loc[areas["role"] == "random", "value"]
    assert f"random directions {bounds(*null.quantile([0.025, 0.975]), 3)}" in caption
    assert html.count("unmoved") == 1
    assert "12 % unmoved" in html


def test_unsteered_and_steered_texts_stand_beside_each_other(comparison: Comparison, text: str) -> None:
    part = text[text.index('id="examples"') : text.index('id="limits"')]
    assert part.count('class="plain" rowspan="4"') == 2
    for g in comparison.generations:
        assert escape(g.text) in part


def test_control_characters_and_lone_surrogates_do_not_break_the_page(tmp_path: Path) -> None:
    c = replace(tiny(), generations=(Generation("p", "MeanShift", 1, 1.0, "a\x00\x1bb\ud83dc\nd"),))
    page = write_report(c, tmp_path).read_bytes()
    assert "a\ufffd\ufffdb?c\nd".encode() in page


def test_limits_name_level_n_selection_and_what_is_missing(text: str) -> None:
    part = plain(text[text.index('id="limits"') : text.index('id="repeat"')])
    for phrase in (
        "95 %",
        "40 questions in 12 groups",
        "one site of 3, where their mean effect at the budget was largest on the selection half",
        "Not measured:",
        "4 methods",
    ):
        assert phrase in part


def test_how_to_repeat_it_holds_command_settings_and_versions(comparison: Comparison, text: str) -> None:
    part = text[text.index('id="repeat"') :]
    assert escape(comparison.provenance.command) in part
    for phrase in ("2.13.0", "FromIndex(-1)", "<dt>seed</dt><dd>0</dd>"):
        assert phrase in part


def tiny() -> Comparison:
    """One method, no random directions, no contrasts, no texts, NaN wherever a tiny run has it."""
    c = make_comparison()
    head = c.headline.iloc[[0]].copy()
    head["n_tried"] = 1
    head["random_n"] = 0
    head[["random_low", "random_high", "z", "displacement", "perplexity_ratio"]] = np.nan
    keep = (c.records["method"] == "MeanShift") & (c.records["split"] == "test")
    keep &= c.records["strength"].isin([0.0, 1.0])
    return replace(
        c,
        headline=head,
        records=c.records[keep & (c.records["metric"] != "displacement")],
        contrasts=c.contrasts.iloc[:0],
        items=c.items.iloc[:0],
        generations=(),
    )


@pytest.mark.slow
def test_a_tiny_run_gives_dashes_not_a_crash(tmp_path: Path) -> None:
    c = tiny()
    page = write_report(c, tmp_path).read_text("utf-8")
    assert "nan" not in plain(page).lower().split()
    assert "z —, n = 0" in plain(page)
    assert "No text was generated" in page
    assert "too few random directions" in plain(page)
    assert "—" in comparison_html(c)


def test_nothing_at_all_still_gives_a_page(tmp_path: Path) -> None:
    c = tiny()
    empty = replace(c, headline=c.headline.iloc[:0], records=c.records.iloc[:0])
    page = write_report(empty, tmp_path).read_text("utf-8")
    assert "No method was measured" in page
    assert "There was nothing to draw" in page


def test_the_notebook_table_holds_the_headline(comparison: Comparison) -> None:
    html = comparison._repr_html_()
    assert html == comparison_html(comparison)
    row = comparison.headline.iloc[0]
    assert estimate(row["effect"], row["effect_low"], row["effect_high"]) in html
    assert "never reached the budget" in html


def test_a_file_in_the_way_is_an_error_that_says_so(comparison: Comparison, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OptionError, match=r"needs a folder, but .*taken is a file"):
        write_report(comparison, tmp_path / "taken")


@pytest.mark.slow
def test_a_saved_comparison_reports_the_same(comparison: Comparison, tmp_path: Path, text: str) -> None:
    comparison.save(tmp_path)
    loaded = Comparison.load(tmp_path)
    for name in ("records", "headline", "contrasts", "items", "texts"):
        pd.testing.assert_frame_equal(getattr(loaded, name), getattr(comparison, name))
    assert loaded.generations == comparison.generations
    assert loaded.provenance == comparison.provenance
    assert write_report(loaded, tmp_path).read_text("utf-8") == text


def test_a_broken_folder_says_what_is_wrong(comparison: Comparison, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"no comparison\.json"):
        Comparison.load(tmp_path)
    comparison.save(tmp_path)
    (tmp_path / "headline.parquet").unlink()
    with pytest.raises(ArtefactError, match=r"headline\.parquet is missing"):
        Comparison.load(tmp_path)
    comparison.save(tmp_path)
    comparison.headline.drop(columns=["z"]).to_parquet(tmp_path / "headline.parquet")
    with pytest.raises(ArtefactError, match="lacks the columns z"):
        Comparison.load(tmp_path)
    comparison.save(tmp_path)
    (tmp_path / "items.parquet").write_bytes(b"not parquet")
    with pytest.raises(ArtefactError, match="not a readable Parquet file"):
        Comparison.load(tmp_path)
    (tmp_path / "comparison.json").write_text('{"schema": "other"}')
    with pytest.raises(ArtefactError, match="schema 'other'"):
        Comparison.load(tmp_path)
    (tmp_path / "comparison.json").write_text("{")
    with pytest.raises(ArtefactError, match="not valid JSON"):
        Comparison.load(tmp_path)
