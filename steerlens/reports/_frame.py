"""What every page begins with: no scripts, no requests, one style sheet, light and dark."""

from importlib.resources import files
from string import Template


def framed(template: str, **fields: str) -> str:
    """A page from ``templates/head.html`` and a template of its own.

    Args:
        template: File name of the page's template.
        **fields: What stands in it; ``title`` and ``version`` in the head, too. HTML already.
    """
    templates = files("steerlens.reports") / "templates"
    text = (templates / "head.html").read_text("utf-8") + (templates / template).read_text("utf-8")
    return Template(text).substitute(fields, style=(templates / "report.css").read_text("utf-8"))
