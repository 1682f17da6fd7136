"""The page in a browser: nothing sticks out, nothing is fetched, nothing complains."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium_pipe import Browser, browser, chromium

from steerlens.evaluation import Comparison
from steerlens.reports import write_report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="needs Debian's chromium: apt-get install -y chromium"),
]

STICKING_OUT = """
[...document.querySelectorAll('body *:not(svg *), svg text')].filter(e => {
  const r = e.getBoundingClientRect();
  return r.width > 1 && r.height > 1 && (r.right > innerWidth + 0.5 || r.left < -0.5);
}).slice(0, 5).map(e => e.tagName + '.' + (e.getAttribute('class') || '') + ' ' + e.textContent.slice(0, 40))
"""
SMALLEST_TEXT = """
Math.min(...[...document.querySelectorAll('figure svg text')].filter(e => e.getBoundingClientRect().width > 0)
  .map(e => parseFloat(getComputedStyle(e).fontSize) * Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b)))
"""
CONTRAST = """
(() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3)
    .map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126*r + 0.7152*g + 0.0722*b; };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const ratio = c => { const l = light(c);
    return (Math.max(l, paper) + 0.05) / (Math.min(l, paper) + 0.05); };
  const inks = [...document.querySelectorAll('h1, p, figcaption, caption, dt, small, a, .unit')]
    .map(e => ratio(getComputedStyle(e).color));
  const drawn = [...document.querySelectorAll('figure svg text')].map(e => ratio(getComputedStyle(e).fill));
  return Math.min(...inks, ...drawn);
})()
"""


@pytest.fixture(scope="module")
def page(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(comparison, tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.mark.parametrize("width", [320, 390, 768, 1000, 1280])
def test_the_page_fits_its_window(tab: Browser, page: Path, width: int) -> None:
    tab.open(page, width=width)
    assert tab.evaluate("innerWidth") == width
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(STICKING_OUT) == []


def test_the_measure_of_sticking_out_finds_what_does(tab: Browser, tmp_path: Path) -> None:
    wide = tmp_path / "wide.html"
    wide.write_text('<meta name="viewport" content="width=device-width"><div style="width:2000px">x</div>')
    tab.open(wide, width=390)
    assert tab.evaluate(STICKING_OUT) != []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_fetched_and_nothing_complains(tab: Browser, page: Path, width: int, scheme: str) -> None:
    tab.open(page, width=width, scheme=scheme)
    assert tab.complaints() == []
    assert tab.requests() == [page.resolve().as_uri()]


def test_a_complaint_would_be_seen(tab: Browser, tmp_path: Path) -> None:
    loud = tmp_path / "loud.html"
    loud.write_text("<script>console.error('loud')</script>")
    tab.open(loud, width=390)
    assert "loud" in "".join(tab.complaints())


@pytest.mark.parametrize("width", [390, 768, 1000, 1280])
def test_text_in_figures_stays_readable(tab: Browser, page: Path, width: int) -> None:
    tab.open(page, width=width)
    assert tab.evaluate(SMALLEST_TEXT) >= 9.5
    shown = "[...document.querySelectorAll('figure svg')].filter(e => e.getBoundingClientRect().width > 0).length"
    assert tab.evaluate(shown) == 6


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(tab: Browser, page: Path, scheme: str) -> None:
    tab.open(page, width=1280, scheme=scheme)
    dark = tab.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert dark == (scheme == "dark")
    assert tab.evaluate(CONTRAST) >= 4.5
