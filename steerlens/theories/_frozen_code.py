"""What a registration freezes of the code: a hypothesis's own, and the rule by which all are judged."""

import ast
import hashlib
import inspect
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

from steerlens.errors import OptionError

RULE = (
    "_estimates.py", "_hypothesis.py", "_judge.py", "_records.py", "_verdict.py",
    "../numerics/_estimate.py", "../numerics/_rank_correlation.py",
)  # fmt: skip
"""Files that every verdict follows from, beside the hypothesis's own code."""


def frozen_code(kind: type, base: type) -> str:
    """SHA-256 of a class, its parents below a base, and every function, class and constant of their modules they use.

    Comments, docstrings and layout do not count. Names from other modules do not either: those of steerlens have
    `rule_version`.

    Raises:
        OptionError: If the class has no source on disk, as one typed into a prompt.
    """
    parts: dict[str, str] = {}
    for one in kind.__mro__:
        if issubclass(one, base) and one is not base:
            _collect(one, parts)
    return hashlib.sha256("\n".join(f"{name}: {parts[name]}" for name in sorted(parts)).encode()).hexdigest()


@cache
def rule_version() -> str:
    """Of the code that reads records, estimates and judges; another where any of it computes otherwise."""
    here = Path(__file__).parent
    trees = (_plain(ast.parse((here / name).read_text("utf-8"))) for name in RULE)
    return hashlib.sha256("\n".join(trees).encode()).hexdigest()[:16]


def class_source(kind: type) -> str:
    """The text of a class.

    Raises:
        OptionError: If it has none.
    """
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        raise OptionError(
            f"{kind.__name__} has no source that could be frozen. Define it in a file or a notebook."
        ) from None


def _collect(thing: Any, parts: dict[str, str]) -> None:
    """A class or function, and what it uses of its own module, under qualified names."""
    name = f"{thing.__module__}.{thing.__qualname__}"
    if name in parts:
        return
    source = class_source(thing) if isinstance(thing, type) else inspect.getsource(thing)
    tree = ast.parse(textwrap.dedent(source))
    parts[name] = _plain(tree)
    module = vars(sys.modules[thing.__module__])
    for used in sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & module.keys()):
        value = module[used]
        if inspect.isfunction(value) or isinstance(value, type):
            if value.__module__ == thing.__module__:
                _collect(value, parts)
        elif isinstance(value, (bool, int, float, str, tuple, frozenset)):
            parts[f"{thing.__module__}.{used}"] = repr(
                sorted(value, key=repr) if isinstance(value, frozenset) else value
            )


def _plain(tree: ast.Module) -> str:
    """Code without docstrings and layout."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [line for line in node.body if not _is_text(line)] or [ast.Pass()]
    return ast.dump(tree)


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
