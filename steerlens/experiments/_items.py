"""Per-item rows of a trial as a Parquet file that carries its record, under the hash of its content."""

import hashlib
import io
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from steerlens.errors import ArtefactError
from steerlens.experiments._trial import TrialRecord

RECORD_KEY = b"steerlens.record"
_NAME = re.compile(r"[0-9a-f]{64}\.parquet")


def items_file(record: TrialRecord, items: pd.DataFrame) -> tuple[str, bytes]:
    """Name and content of the file: rows, with the record in its metadata.

    Raises:
        ArtefactError: If the rows cannot be stored.
    """
    try:
        table = pa.Table.from_pandas(items, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ArtefactError(
            f"The rows of {record.spec.label} cannot be stored: {error}. Give every column one type."
        ) from None
    metadata = {**(table.schema.metadata or {}), RECORD_KEY: record.to_json().encode("ascii")}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer)
    data = buffer.getvalue()
    return f"{hashlib.sha256(data).hexdigest()}.parquet", data


def is_whole(path: Path) -> bool:
    """Whether a file's content is the one its name promises."""
    if _NAME.fullmatch(path.name) is None:
        return False
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(data).hexdigest() == path.stem


def read_items(path: Path, store: Path) -> pd.DataFrame:
    """The rows, if the file is whole.

    Raises:
        ArtefactError: If the file is missing or not as it was written.
    """
    if not is_whole(path):
        state = "is not as it was written" if path.exists() else "is missing"
        raise ArtefactError(f"{path} {state}. Run ResultStore({str(store)!r}).repair(), and the study again.")
    frame: pd.DataFrame = pq.read_table(io.BytesIO(path.read_bytes())).to_pandas()
    return frame


def read_record(path: Path) -> TrialRecord:
    """The record in a whole file.

    Raises:
        ArtefactError: If it holds none.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError):
        metadata = {}
    if RECORD_KEY not in metadata:
        raise ArtefactError(f"{path} holds no trial record. Move it out of the store.")
    return TrialRecord.from_json(metadata[RECORD_KEY].decode("ascii"))
