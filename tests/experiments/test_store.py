"""Our store keeps the laws of stores, and its own promises: which byte, in which file, and what became of it."""

import hashlib
import io
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from steerlens.errors import ArtefactError, OptionError
from steerlens.experiments import ResultStore, TrialRecord
from steerlens.experiments._log import framed, scan
from steerlens.testing import StoreLaws
from steerlens.testing.store_laws import made_up_trial


class TestResultStore(StoreLaws):
    stride = 61  # every byte of the log is tried below

    @pytest.fixture
    def store_type(self) -> Any:
        return ResultStore


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    store = ResultStore(tmp_path / "store")
    for number in range(3):
        store.append(*made_up_trial(number))
    return store


def lines_of(store: ResultStore) -> list[bytes]:
    return (store.path / "log").read_bytes().splitlines(keepends=True)


def test_every_lost_line_comes_back_from_its_table(store: ResultStore):
    """However much of the log is gone, no finished trial is."""
    whole = (store.path / "log").read_bytes()
    for size in range(0, len(whole), 101):
        (store.path / "log").write_bytes(whole[:size])
        done = ResultStore(store.path).repair()
        n_whole = whole[:size].count(b"\n")
        assert (done.kept, done.recovered, done.lost) == (n_whole, 3 - n_whole, ())
        assert sorted(r.spec.seed for r in ResultStore(store.path)) == [0, 1, 2]
        (store.path / "log").write_bytes(whole)


def test_a_cut_log_is_found_even_between_lines(store: ResultStore):
    lines = lines_of(store)
    (store.path / "log").write_bytes(b"".join(lines[:2]))
    assert len(ResultStore(store.path)) == 2
    [damage] = ResultStore(store.path).damage()
    assert damage.torn
    assert "no line of the log names" in str(damage)


def test_the_error_names_file_line_and_byte(store: ResultStore):
    lines = lines_of(store)
    lines[1] = lines[1].replace(b"MeanShift", b"MeenShift")
    (store.path / "log").write_bytes(b"".join(lines))
    fresh = ResultStore(store.path)
    for look in (lambda: list(fresh), lambda: len(fresh), lambda: made_up_trial(0)[0].spec in fresh, fresh.notes):
        with pytest.raises(ArtefactError, match=rf"log, line 2, byte {len(lines[0])}.*repair"):
            look()
    with pytest.raises(ArtefactError, match="line 2"):
        fresh.append(*made_up_trial(5))
    done = fresh.repair()
    assert "1 put back" in str(done)
    kept = store.path / done.moved[0]
    assert kept.read_bytes() == lines[1]
    [note] = fresh.notes("repair")
    assert note.content["moved"] == list(done.moved)
    assert "line 2" in note.content["damage"][0]


@pytest.mark.parametrize("order", [(0, 2), (1, 2), (0, 2, 1), (0, 1, 1, 2), (0, 1, 2, 0)])
def test_lines_that_are_missing_moved_or_repeated_are_found(store: ResultStore, order: tuple[int, ...]):
    lines = lines_of(store)
    (store.path / "log").write_bytes(b"".join(lines[i] for i in order))
    with pytest.raises(ArtefactError, match=r"missing|stands here again"):
        list(ResultStore(store.path))
    ResultStore(store.path).repair()
    assert sorted(r.spec.seed for r in ResultStore(store.path)) == [0, 1, 2]


def test_a_torn_end_hides_nothing_and_is_moved_aside_by_the_next_append(store: ResultStore):
    with (store.path / "log").open("ab") as file:
        file.write(b"4 1000 abc {")
    fresh = ResultStore(store.path)
    assert [r.spec.seed for r in fresh] == [0, 1, 2]
    assert fresh.notes("repair") == []
    fresh.append(*made_up_trial(5))
    [note] = fresh.notes("repair")
    assert (store.path / note.content["moved"][0]).read_bytes() == b"4 1000 abc {"
    assert [r.spec.seed for r in ResultStore(store.path)] == [0, 1, 2, 5]
    assert fresh.damage() == []


def test_a_line_changed_after_it_was_read_is_not_believed(store: ResultStore):
    assert made_up_trial(1)[0].spec in store
    path = store.path / "log"
    facts, raw = path.stat(), path.read_bytes()
    with path.open("r+b") as file:  # same file, same size, same time
        file.seek(raw.index(b"MeanShift", raw.index(b"\n")))
        file.write(b"MeenShift")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with pytest.raises(ArtefactError, match="line 2"):
        store[made_up_trial(1)[0].spec]


def test_rows_that_were_changed_are_not_read(store: ResultStore):
    spec = made_up_trial(1)[0].spec
    [table] = [p for p in (store.path / "items").iterdir() if store.items(spec) is not None and p.stem in
               lines_of(store)[1].decode()]  # fmt: skip
    table.write_bytes(table.read_bytes()[:-1])
    with pytest.raises(ArtefactError, match="is not as it was written"):
        store.items(spec)
    assert store.repair().lost == (spec.fingerprint,)
    assert spec not in store
    table.unlink(missing_ok=True)
    assert store.append(*made_up_trial(1))


def measured_again(number: int, date: str) -> tuple[TrialRecord, pd.DataFrame]:
    """The same trial once more: same spec, other rows, another day."""
    record, rows = made_up_trial(number)
    return replace(record, environment={"date": date}), rows.assign(measured=date)


@pytest.mark.parametrize("newest_file_first", [False, True])
def test_of_two_tables_of_a_trial_the_newest_comes_back_once(tmp_path: Path, newest_file_first: bool):
    """A trial is measured again where its table does not lie yet, as before folders are merged; then all lines go."""
    store = ResultStore(tmp_path / "store")
    store.append(*made_up_trial(0))
    store.append(*measured_again(1, "2026-01-01 00:00 UTC"))
    [first] = [p for p in (store.path / "items").iterdir() if p.stem in lines_of(store)[1].decode()]
    (store.path / "log").write_bytes(lines_of(store)[0])
    hidden = first.replace(tmp_path / first.name)
    assert ResultStore(store.path).append(*measured_again(1, "2026-01-02 00:00 UTC"))
    hidden.replace(first)
    if newest_file_first:  # as a copy may leave it: the record's date decides
        os.utime(first)
    (store.path / "log").unlink()
    done = ResultStore(store.path).repair()
    assert (done.kept, done.recovered, done.lost) == (0, 2, ())
    assert done.moved == (f"damaged/{first.name}",)
    fresh = ResultStore(store.path)
    assert sum(b'"kind":"trial"' in line for line in lines_of(store)) == len(fresh) == 2
    assert set(fresh.items(made_up_trial(1)[0].spec)["measured"]) == {"2026-01-02 00:00 UTC"}
    assert fresh.damage() == []


def test_a_trial_whose_line_is_lost_comes_back_before_it_is_measured_again(store: ResultStore):
    (store.path / "log").write_bytes(lines_of(store)[0])
    again = ResultStore(store.path)
    assert len(again) == 1
    assert again.append(*measured_again(1, "2026-01-02 00:00 UTC")) is False
    assert len(again) == len(ResultStore(store.path)) == 3
    assert "measured" not in again.items(made_up_trial(1)[0].spec)


@pytest.mark.parametrize("table", [True, False])
def test_a_stranger_among_the_tables_is_moved_aside(store: ResultStore, table: bool):
    """Whole by its name, but no table of a trial; it must not keep a store from being examined."""
    content = io.BytesIO()
    pd.DataFrame({"x": [1]}).to_parquet(content)
    data = content.getvalue() if table else b"no table at all"
    name = f"{hashlib.sha256(data).hexdigest()}.parquet"
    (store.path / "items" / name).write_bytes(data)
    [found] = store.damage()
    assert (found.file, found.what) == (f"items/{name}", "no table of a trial")
    done = store.repair()
    assert (done.kept, done.recovered, done.lost, done.moved) == (3, 0, (), (f"damaged/{name}",))
    assert store.damage() == []


def test_numbers_of_numpy_are_numbers(tmp_path: Path):
    record, rows = made_up_trial(0)
    store = ResultStore(tmp_path / "store")
    store.append(replace(record, environment={"seconds": np.float32(0.5), "trials_together": np.int64(3)}), rows)
    assert next(iter(store)).environment == {"seconds": 0.5, "trials_together": 3}


def test_what_a_killed_writer_of_the_log_left_is_cleared_away(store: ResultStore):
    left = store.path / "log.4711.unfinished"
    left.write_bytes(b"half a log")
    store.repair()
    assert not left.exists()
    assert len(ResultStore(store.path)) == 3


def test_a_file_where_damaged_bytes_should_go_is_an_error_and_changes_nothing(store: ResultStore):
    (store.path / "damaged").write_text("mine")
    whole = (store.path / "log").read_bytes()
    (store.path / "log").write_bytes(whole[:-9])
    with pytest.raises(ArtefactError, match=r"damaged is a file.*Rename it, and repair again"):
        ResultStore(store.path).repair()
    assert (store.path / "log").read_bytes() == whole[:-9]
    (store.path / "damaged").unlink()
    assert ResultStore(store.path).repair().recovered == 1


def test_notes_come_back_with_their_time(store: ResultStore):
    said = store.append_note("failure", {"model": "m", "reason": "café", "seconds": 1.0})
    store.append_note("other", {})
    assert ResultStore(store.path).notes("failure") == [said]
    assert said.content == {"model": "m", "reason": "café", "seconds": 1}
    assert said.written.startswith("20")
    assert len(store.notes()) == 2
    assert len(store) == 3
    with pytest.raises(OptionError, match="finite"):
        store.append_note("failure", {"x": float("nan")})


def test_the_frame_has_one_row_for_each_number(store: ResultStore):
    frame = store.to_frame()
    assert list(frame["seed"]) == [0, 1, 2]
    assert list(frame["value"]) == [r.metrics[0].estimate.value for r in store]
    assert frame["fingerprint"].is_unique
    assert {"metric", "strength", "low", "high", "n", "n_clusters", "method", "interval"} <= set(frame)
    assert list(frame["interval"]) == ["made up"] * 3
    assert list(frame["method"]) == ["MeanShift"] * 3


def test_asking_for_what_is_not_stored_is_an_error(store: ResultStore, tmp_path: Path):
    with pytest.raises(OptionError, match="holds no trial"):
        store[made_up_trial(9)[0].spec]
    (tmp_path / "file").touch()
    with pytest.raises(ArtefactError, match="is a file"):
        ResultStore(tmp_path / "file")


def test_a_lock_that_is_held_is_waited_for_and_named(store: ResultStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("steerlens.experiments._store.PATIENCE", 0.1)
    hold = "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); "
    holder = subprocess.Popen(
        [sys.executable, "-c", hold + "time.sleep(60)", str(store.path / "lock")], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    try:
        holder.stdout.readline()
        with pytest.raises(ArtefactError, match=r"held .*lock for 0\.1 s"):
            store.append(*made_up_trial(5))
    finally:
        holder.kill()
        holder.communicate()
    assert store.append(*made_up_trial(5))  # the lock died with its holder


def test_the_kernel_s_own_limit_on_file_size_is_survived(store: ResultStore):
    """No patched function: the system takes part of a line and then refuses."""
    for number in range(10, 20):  # so that the log is longer than a table, and it is the line that does not fit
        store.append(*made_up_trial(number))
    size = (store.path / "log").stat().st_size
    code = (
        "import resource, signal, sys; from steerlens.experiments import ResultStore; "
        "from steerlens.testing.store_laws import made_up_trial; from steerlens.errors import ArtefactError; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); limit = int(sys.argv[2]); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "try:\n    ResultStore(sys.argv[1]).append(*made_up_trial(5))\nexcept ArtefactError as e:\n    print(e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.path), str(size + 200)], capture_output=True, text=True, check=True
    )
    assert "log could not be written" in done.stdout
    assert "Free some space" in done.stdout
    assert (store.path / "log").stat().st_size == size
    # Its table was on disk before the line was refused: it is put back, and not stored a second time.
    assert ResultStore(store.path).append(*made_up_trial(5)) is False
    assert made_up_trial(5)[0].spec in ResultStore(store.path)
    assert ResultStore(store.path).damage() == []


def test_a_big_store_is_read_once_and_then_asked_in_no_time(store: ResultStore):
    for number in range(3, 120):
        store.append(*made_up_trial(number))
    fresh, specs = ResultStore(store.path), [made_up_trial(n)[0].spec for n in range(120)]
    assert specs[0] in fresh
    started = time.perf_counter()
    assert all(spec in fresh for spec in specs)
    assert time.perf_counter() - started < 0.1  # 120 look-ups; one pass over the log takes longer


def test_no_cut_and_no_flipped_bit_of_the_log_reads_as_a_line_that_was_not_written(store: ResultStore):
    """At every byte, in memory."""
    whole = (store.path / "log").read_bytes()
    written, _ = scan(whole, "log")
    for at in range(len(whole)):
        lines, damage = scan(whole[:at], "log")
        assert lines == written[: whole[:at].count(b"\n")]
        assert [d.torn for d in damage] == [True] * (at > 0 and not whole[:at].endswith(b"\n"))
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        lines, damage = scan(bytes(flipped), "log")
        assert damage
        assert {line.payload for line in lines} < {line.payload for line in written}


def test_frames_say_where_they_stand():
    raw = b"".join(framed(n, b"{%d}" % n) for n in (1, 2, 3))
    lines, damage = scan(raw, "log")
    assert [line.payload for line in lines] == [b"{1}", b"{2}", b"{3}"]
    assert damage == []
    assert scan(raw.replace(b"{2}", b"{4}"), "log")[1][0].line == 2
