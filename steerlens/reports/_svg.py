"""Figures as files, and as SVG that can stand inside a page among others."""

import io
import re
from html import escape

import matplotlib as mpl
from matplotlib.figure import Figure

from steerlens.reports._drawing import SETTINGS
from steerlens.reports._palette import PAPER, VARIABLES

_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_STYLE = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
_ID = re.compile(r'\bid="([^"]+)"')
_REFERENCE = re.compile(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"')
_FONT = re.compile(r"font-family: [^;\"]+(; ?)?")
_SIZE = re.compile(r'<svg [^>]*?viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>')


def svg_bytes(figure: Figure) -> bytes:
    """The figure as an SVG file, the same bytes every time."""
    return _written(figure, "svg", {"Date": None, "Creator": None})


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG file on light paper."""
    return _written(figure, "png", {"Software": None})


def _written(figure: Figure, kind: str, metadata: dict[str, str | None]) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context(SETTINGS):
        figure.savefig(buffer, format=kind, facecolor=PAPER, dpi=200, metadata=metadata)
    return buffer.getvalue()


def inline_svg(figure: Figure, *, prefix: str, title: str, description: str) -> str:
    """The figure as an ``<svg>`` element that takes fonts and colours from the page.

    Args:
        figure: Drawn in the colours of the palette.
        prefix: Put before every id, so that two figures of a page never share one.
        title: Its name, for screen readers.
        description: What it shows, for screen readers.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(SETTINGS):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode("utf-8")
    text = text[text.index("<svg") :]
    text = _STYLE.sub("", _METADATA.sub("", text))
    text = _ID.sub(lambda m: f'id="{prefix}-{m[1]}"', text)
    text = _REFERENCE.sub(
        lambda m: f"url(#{prefix}-{m[1]})" if m[1] else f'xlink:href="#{prefix}-{m[2]}"',
        text,
    )
    text = _FONT.sub("", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    head = (
        f'<svg role="img" aria-labelledby="{prefix}-title {prefix}-desc" viewBox="0 0 \\1 \\2" '
        f'width="\\1pt" height="\\2pt" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    match = _SIZE.search(text)
    opening = match.expand(head) if match else "<svg>"
    names = f'<title id="{prefix}-title">{escape(title)}</title>'
    names += f'<desc id="{prefix}-desc">{escape(description)}</desc>'
    body = text[match.end() if match else 0 :]
    return re.sub(r"\n\s*", "\n", f"{opening}{names}{body}").strip()
