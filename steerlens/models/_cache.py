"""Where steerlens keeps what it has fetched or computed."""

import os
import sys
from pathlib import Path


def cache_home() -> Path:
    """`$STEERLENS_CACHE`, else the platform's cache folder."""
    if chosen := os.environ.get("STEERLENS_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "steerlens"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "steerlens" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "steerlens"
