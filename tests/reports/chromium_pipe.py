"""A headless Chromium spoken to over a pipe: no driver, no port, no network."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--disable-extensions", "--disable-default-apps", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 90.0


def chromium() -> str | None:
    """Where Debian's chromium is, if it is."""
    return shutil.which("chromium")


@final
@dataclass
class Browser:
    """One tab of a running browser; ``events`` holds what it said unasked."""

    to: int
    back: int
    session: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    _rest: bytes = b""
    _sent: int = 0

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        return self._until(lambda m: m.get("id") == self._sent)

    def _until(self, wanted: Any) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            while b"\0" in self._rest:
                raw, self._rest = self._rest.split(b"\0", 1)
                message = json.loads(raw)
                if "id" not in message:
                    self.events.append(message)
                if wanted(message):
                    if "error" in message:
                        raise RuntimeError(message["error"])
                    return message.get("result", message)
            chunk = os.read(self.back, 1 << 16)
            if not chunk:
                raise RuntimeError("chromium went away")
            self._rest += chunk
        raise TimeoutError("chromium did not answer")

    def open(self, page: Path, *, width: int, scheme: str = "light") -> None:
        self.events.clear()
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media="screen", features=media)
        self.send("Page.navigate", url=page.resolve().as_uri())
        if not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self._until(lambda m: m.get("method") == "Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        return self.send("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def complaints(self) -> list[str]:
        """Console messages, log entries and exceptions since `open`."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(e["params"])[:500] for e in self.events if e["method"] in kinds]

    def requests(self) -> list[str]:
        """Addresses asked for since `open`."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def screenshot(self, path: Path) -> Path:
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def pdf(self, path: Path) -> Path:
        self.send("Emulation.setEmulatedMedia", media="", features=[])
        path.write_bytes(base64.b64decode(self.send("Page.printToPDF", printBackground=True)["data"]))
        return path


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A fresh browser with one tab, ended with the block."""
    program = chromium()
    assert program is not None
    read_in, write_in = os.pipe()
    read_out, write_out = os.pipe()

    def on_three_and_four() -> None:
        a, b = os.dup(read_in), os.dup(write_out)
        os.dup2(a, 3)
        os.dup2(b, 4)

    process = subprocess.Popen(
        [program, *QUIET, f"--user-data-dir={profile}", "about:blank"],
        preexec_fn=on_three_and_four, close_fds=False, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(read_in)
    os.close(write_out)
    try:
        found = Browser(write_in, read_out)
        target = found.send("Target.createTarget", url="about:blank")["targetId"]
        found.session = found.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            found.send(f"{domain}.enable")
        yield found
    finally:
        process.terminate()
        process.wait(timeout=30)
        os.close(write_in)
        os.close(read_out)
