"""What holds for every store of trials, whatever happens to its writers and its files."""

import errno
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from steerlens.errors import ArtefactError
from steerlens.experiments import TrialMetric, TrialRecord, TrialSpec
from steerlens.numerics import Estimate

Trial = tuple[TrialRecord, pd.DataFrame]
N_TRIALS = 3
KILLS = 4
"""Writers that are killed in one law, each at another moment."""


@cache
def made_up_trial(number: int) -> Trial:
    """A small trial: equal numbers give equal trials."""
    spec = TrialSpec(
        model="tiny-llama", revision="r1", dtype="float32", concept="café", data="abc", split_seed=0,
        hook_name="blocks.1.hook_resid_post", method="MeanShift", strengths=(0, 1), neutral="n", metrics=("effect",),
        seed=number, code="c",
    )  # fmt: skip
    estimate = Estimate(number / 3, number / 3 - 1, number / 3 + 1, 0.95, 4, 2, "made up")
    items = pd.DataFrame({"question": [0, 1], "propensity": [number / 7, -1.0], "group": ["a", "b"]})
    return TrialRecord(spec, (TrialMetric("effect", 1, estimate),)), items


def write_many(store_type: str, folder: str, first: int, stop: int) -> None:
    """Append made-up trials, saying the number of each one that is stored; for a process of its own."""
    module, _, name = store_type.partition(":")
    store = getattr(importlib.import_module(module), name)(folder)
    for number in range(first, stop):
        store.append(*made_up_trial(number))
        print(number, flush=True)


class StoreLaws:
    """Subclass and supply ``store_type``: a class that is made from a folder, importable by name.

    It needs ``append(record, items)``, iteration, ``len``, ``in``, ``items(spec)``, ``damage()`` and ``repair()``, and
    writes through `os.write`. A law holds for every file in the folder but those named in ``not_data``.
    """

    not_data = ("lock",)
    stride = 1
    """Every so many bytes of each file are tried; the first and the last twenty always are."""

    @pytest.fixture
    def without_sync(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """For laws that write thousands of times and cut the files themselves."""
        monkeypatch.setattr(os, "fsync", lambda handle: None)

    @pytest.fixture
    def written(self, store_type: Any, tmp_path: Path) -> Path:
        folder = tmp_path / "store"
        store = store_type(folder)
        for number in range(N_TRIALS):
            store.append(*made_up_trial(number))
        return folder

    def test_trials_come_back_in_order_with_their_rows(self, store_type: Any, written: Path) -> None:
        store = store_type(written)
        assert list(store) == [made_up_trial(n)[0] for n in range(N_TRIALS)]
        _assert_all_true(store, range(N_TRIALS))
        assert made_up_trial(99)[0].spec not in store
        assert store.damage() == []

    def test_nothing_is_an_empty_store(self, store_type: Any, tmp_path: Path) -> None:
        store = store_type(tmp_path / "none")
        assert (list(store), len(store), store.damage()) == ([], 0, [])
        assert made_up_trial(0)[0].spec not in store
        store.repair()
        assert not (tmp_path / "none").exists()

    def test_a_trial_is_stored_once(self, store_type: Any, written: Path) -> None:
        for store in (store_type(written), store_type(written)):
            assert store.append(*made_up_trial(1)) is False
        assert len(store_type(written)) == N_TRIALS

    def test_one_store_sees_what_another_writes(self, store_type: Any, written: Path) -> None:
        reader, writer = store_type(written), store_type(written)
        assert len(reader) == N_TRIALS
        writer.append(*made_up_trial(7))
        assert made_up_trial(7)[0].spec in reader
        assert len(reader) == N_TRIALS + 1

    def test_it_works_where_it_is_moved(self, store_type: Any, written: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        moved = Path(shutil.move(written, tmp_path / "elsewhere" / "other name"))
        store = store_type(moved)
        _assert_all_true(store, range(N_TRIALS))
        store.append(*made_up_trial(7))
        assert len(store) == N_TRIALS + 1

    def test_repairing_a_whole_store_changes_no_byte(self, store_type: Any, written: Path) -> None:
        before = {p: p.read_bytes() for p in self._files(written)}
        store_type(written).repair()
        assert {p: p.read_bytes() for p in self._files(written)} == before

    @pytest.mark.slow
    @pytest.mark.usefixtures("without_sync")
    def test_a_cut_at_any_byte_reads_as_nothing_wrong_and_loses_no_other_trial(
        self, store_type: Any, written: Path
    ) -> None:
        for path, whole in self._each_file(written):
            for size in self._places(len(whole)):
                path.write_bytes(whole[:size])
                self._assert_survived(store_type, written, path, at_most=1)
                _put_back(written, self._kept)

    def test_a_log_that_lost_whole_lines_gets_them_back(self, store_type: Any, written: Path) -> None:
        """Cut between two lines, emptied or deleted, it looks like a shorter store; the tables know better."""
        for path, whole in self._each_file(written):
            ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
            if not ends or ends[-1] != len(whole) or path.suffix == ".parquet":
                continue
            for size in (0, *ends[:-1]):
                path.write_bytes(whole[:size])
                store = store_type(written)
                assert store.put_back() > 0
                assert store.put_back() == 0
                _assert_all_true(store_type(written), range(N_TRIALS))
                _put_back(written, self._kept)
                path.write_bytes(whole[:size])
                store_type(written).append(*made_up_trial(7))
                _assert_all_true(store_type(written), [*range(N_TRIALS), 7])
                _put_back(written, self._kept)

    @pytest.mark.slow
    @pytest.mark.usefixtures("without_sync")
    def test_a_flipped_bit_anywhere_is_found_and_named(self, store_type: Any, written: Path) -> None:
        chance = random.Random(0)
        for path, whole in self._each_file(written):
            for at in self._places(len(whole) - 1):
                changed = bytearray(whole)
                changed[at] ^= 1 << chance.randrange(8)
                path.write_bytes(changed)
                assert any(d.file == path.relative_to(written).as_posix() for d in store_type(written).damage()), at
                self._assert_survived(store_type, written, path, at_most=1)
                _put_back(written, self._kept)

    @pytest.mark.usefixtures("without_sync")
    def test_an_overwritten_stretch_is_found(self, store_type: Any, written: Path) -> None:
        chance = random.Random(1)
        for path, whole in self._each_file(written):
            for _ in range(20):
                start = chance.randrange(len(whole))
                junk = chance.randbytes(chance.randrange(1, len(whole) - start + 1))
                path.write_bytes(whole[:start] + junk + whole[start + len(junk) :])
                if path.read_bytes() != whole:
                    assert store_type(written).damage()
                    self._assert_survived(store_type, written, path, at_most=1)
                _put_back(written, self._kept)

    @pytest.mark.usefixtures("without_sync")
    def test_a_missing_file_is_found(self, store_type: Any, written: Path) -> None:
        for path, _ in self._each_file(written):
            path.unlink()
            assert store_type(written).damage()
            self._assert_survived(store_type, written, path, at_most=1)
            _put_back(written, self._kept)

    @pytest.mark.usefixtures("without_sync")
    def test_after_any_cut_the_next_trial_is_stored(self, store_type: Any, written: Path) -> None:
        for path, whole in self._each_file(written):
            for size in range(0, len(whole), max(1, len(whole) // 12)):
                path.write_bytes(whole[:size])
                store_type(written).repair()
                store = store_type(written)
                store.append(*made_up_trial(7))
                assert made_up_trial(7)[0].spec in store
                assert store.damage() == []
                _put_back(written, self._kept)

    @pytest.mark.usefixtures("without_sync")
    def test_a_full_disk_at_any_byte_is_an_error_and_leaves_the_store_whole(
        self, store_type: Any, written: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = self._keep(written)
        room, refused = 0, True
        while refused:
            with monkeypatch.context() as patch:
                patch.setattr(os, "write", _disk_with(room))
                try:
                    store_type(written).append(*made_up_trial(7))
                    refused = False
                except ArtefactError as error:
                    assert "space" in str(error)  # noqa: PT017
            if refused:
                store = store_type(written)
                assert made_up_trial(7)[0].spec not in store
                _assert_all_true(store, range(N_TRIALS))
                assert store.append(*made_up_trial(8))  # there is room again
                _put_back(written, kept)
            room += 97
        assert made_up_trial(7)[0].spec in store_type(written)

    @pytest.mark.slow
    def test_a_writer_that_is_killed_loses_nothing_it_had_stored(self, store_type: Any, tmp_path: Path) -> None:
        chance = random.Random(2)
        for kill in range(KILLS):
            folder = tmp_path / f"killed {kill}"
            stored = _killed(_writer(store_type, folder, 0, 10_000), chance.uniform(0.02, 0.5))
            store = store_type(folder)
            store.repair()
            there = {record.spec.seed for record in store}
            assert set(stored) <= there
            assert len(there) <= len(stored) + 1  # one may have been stored and not yet said
            _assert_all_true(store, sorted(there))
            assert store.append(*made_up_trial(20_000))
            assert store.damage() == []

    @pytest.mark.slow
    def test_two_writers_lose_nothing_and_store_nothing_twice(self, store_type: Any, tmp_path: Path) -> None:
        folder = tmp_path / "raced"
        writers = [_writer(store_type, folder, *span) for span in ((0, 60), (30, 90))]
        for writer in writers:
            _, errors = writer.communicate(timeout=300)
            assert writer.returncode == 0, errors
        store = store_type(folder)
        assert sorted(record.spec.seed for record in store) == list(range(90))
        _assert_all_true(store, range(90))
        assert store.damage() == []

    @pytest.mark.slow
    def test_a_writer_goes_on_beside_one_that_is_killed(self, store_type: Any, tmp_path: Path) -> None:
        folder = tmp_path / "raced and killed"
        steady = _writer(store_type, folder, 0, 80)
        stored = [n for i in range(3) for n in _killed(_writer(store_type, folder, 1000 * (i + 1), 10**6), 0.1)]
        _, errors = steady.communicate(timeout=300)
        assert steady.returncode == 0, errors
        store = store_type(folder)
        store.repair()
        assert {*range(80), *stored} <= {record.spec.seed for record in store}
        assert store.damage() == []

    # What the laws are made of.

    def _files(self, folder: Path) -> list[Path]:
        return [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in self.not_data]

    def _keep(self, folder: Path) -> dict[str, bytes]:
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in self._files(folder)}

    def _each_file(self, folder: Path) -> Iterator[tuple[Path, bytes]]:
        self._kept = self._keep(folder)
        for name, whole in self._kept.items():
            yield folder / name, whole

    def _places(self, n: int) -> list[int]:
        return sorted({*range(0, n, self.stride), *range(min(20, n)), *range(max(0, n - 20), n)})

    def _assert_survived(self, store_type: Any, folder: Path, path: Path, *, at_most: int) -> None:
        """What is read is true, an error names a file, and a repair keeps all but ``at_most`` trials."""
        try:
            store = store_type(folder)
            for record in store:
                _assert_true(store, record)
        except ArtefactError as error:
            assert path.name in str(error) or str(folder) in str(error)  # noqa: PT017
        store_type(folder).repair()
        store = store_type(folder)
        there = [record.spec.seed for record in store]
        _assert_all_true(store, there)
        assert len(there) >= N_TRIALS - at_most
        assert store.damage() == []
        for number in set(range(N_TRIALS)) - set(there):
            assert store.append(*made_up_trial(number))


def _assert_true(store: Any, record: TrialRecord) -> None:
    wanted, items = made_up_trial(record.spec.seed)
    assert record == wanted
    assert_frame_equal(store.items(record.spec), items)


def _assert_all_true(store: Any, numbers: Any) -> None:
    found = list(store)
    assert sorted(record.spec.seed for record in found) == sorted(numbers)
    assert len(store) == len(found)
    for record in found:
        assert record.spec in store
        _assert_true(store, record)


def _put_back(folder: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(folder)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def _disk_with(room: int) -> Callable[[int, Any], int]:
    """`os.write` on a disk with so many bytes left: it writes what fits, then refuses."""
    real, left = os.write, room

    def write(handle: int, data: Any) -> int:
        nonlocal left
        if left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = real(handle, bytes(data)[:left])
        left -= taken
        return taken

    return write


def _writer(store_type: Any, folder: Path, first: int, stop: int) -> "subprocess.Popen[str]":
    name = f"{store_type.__module__}:{store_type.__qualname__}"
    code = (
        f"from steerlens.testing.store_laws import write_many; write_many({name!r}, {str(folder)!r}, {first}, {stop})"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _killed(writer: "subprocess.Popen[str]", seconds: float) -> list[int]:
    """Kill -9 a writer so long after its first trial; the trials it had said to be stored."""
    assert writer.stdout is not None
    first = writer.stdout.readline()
    time.sleep(seconds)
    writer.send_signal(signal.SIGKILL)
    rest, _ = writer.communicate(timeout=60)
    whole = (first + rest).split("\n")[:-1]
    return [int(line) for line in whole]
