"""Numbers as text: the digits that the interval carries, a true minus sign, a dash for what is missing."""

import math
from collections.abc import Sequence
from typing import SupportsFloat

DASH = "—"


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite number; None, NaN and text are not."""
    try:
        return math.isfinite(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def decimals_for(width: SupportsFloat) -> int:
    """Decimals that give half an interval of this width two significant digits, 0 to 4."""
    half = float(width) / 2
    if not is_number(half) or half <= 0:
        return 2
    return min(4, max(0, 1 - math.floor(math.log10(half))))


def number(value: SupportsFloat, decimals: int = 2, *, signed: bool = False) -> str:
    """``value`` with fixed decimals; a dash when it is not finite."""
    if not is_number(value):
        return DASH
    text = f"{float(value):.{decimals}f}"
    if float(text) == 0:
        return text.removeprefix("-")
    return text.replace("-", "−") if text.startswith("-") else ("+" if signed else "") + text


def general(value: SupportsFloat, digits: int = 3) -> str:
    """``value`` with significant digits, for strengths, budgets and facts."""
    return f"{float(value):.{digits}g}".replace("-", "−") if is_number(value) else DASH


def bounds(low: SupportsFloat, high: SupportsFloat, decimals: int) -> str:
    """``[low, high]``; a dash when either end is missing."""
    if not (is_number(low) and is_number(high)):
        return f"[{DASH}]"
    return f"[{number(low, decimals)}, {number(high, decimals)}]"


def estimate(value: SupportsFloat, low: SupportsFloat, high: SupportsFloat, *, signed: bool = False) -> str:
    """``value [low, high]`` with the digits its interval carries; a dash when there is no value."""
    if not is_number(value):
        return DASH
    decimals = decimals_for(float(high) - float(low))
    return f"{number(value, decimals, signed=signed)} {bounds(low, high, decimals)}"


def percent(value: SupportsFloat, low: SupportsFloat, high: SupportsFloat) -> str:
    """A share with its interval, in percent; a dash when there is no value."""
    if not is_number(value):
        return DASH
    share, least, most = (100 * float(x) for x in (value, low, high))
    decimals = 1 if most - least < 2 else 0
    return f"{number(share, decimals)} % {bounds(least, most, decimals)}"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def counted(n: int, noun: str) -> str:
    """``1 question``, ``2 questions``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
