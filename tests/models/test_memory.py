"""How much memory is free, as control groups and limits on the process say it."""

from pathlib import Path

import pytest

from steerlens.models import _memory


def machine(tmp: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    """A /proc and a /sys of our own."""
    real = Path

    def redirected(path: object, *parts: object) -> Path:
        text = str(path)
        return real(tmp / text.lstrip("/")) if text.startswith(("/proc", "/sys")) else real(text, *map(str, parts))

    for name, text in files.items():
        file = tmp / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(_memory, "Path", redirected)


MEMINFO = {"/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n"}


def test_the_machine_s_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    machine(tmp_path, monkeypatch, MEMINFO)
    assert _memory.free_bytes() == 8000 * 1024


@pytest.mark.parametrize("group", ["", "/user/app"])
def test_the_tightest_control_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str):
    files = {
        **MEMINFO,
        "/proc/self/cgroup": "0::/user/app\n",
        f"/sys/fs/cgroup{group}/memory.max": "5000\n",
        f"/sys/fs/cgroup{group}/memory.current": "4500\n",
        f"/sys/fs/cgroup{group}/memory.stat": "anon 4000\ninactive_file 300\n",
    }
    machine(tmp_path, monkeypatch, files)
    assert _memory.free_bytes() == 5000 - 4500 + 300


def test_the_older_interface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = {
        **MEMINFO,
        "/proc/self/cgroup": "4:memory:/box\n2:cpu:/else\n",
        "/sys/fs/cgroup/memory/box/memory.limit_in_bytes": "7000",
        "/sys/fs/cgroup/memory/box/memory.usage_in_bytes": "1000",
    }
    machine(tmp_path, monkeypatch, files)
    assert _memory.free_bytes() == 6000


def test_no_limit_and_no_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    machine(tmp_path, monkeypatch, {**MEMINFO, "/sys/fs/cgroup/memory.max": "max\n"})
    assert _memory.free_bytes() == 8000 * 1024
    machine(tmp_path / "empty", monkeypatch, {})
    assert _memory.free_bytes() is None
