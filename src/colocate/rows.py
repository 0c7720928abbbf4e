"""Rows of data files as data sets come: JSONL, one JSON list, Parquet or CSV; a file, or a folder as on the hub.

Files are read piece by piece: some training sets of the hub are larger than memory. `where` names a row in messages:
"file:line" of a .jsonl, "file: row i" (from 1) of the others.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from colocate.errors import InputError

CHUNK = 1 << 20  # characters
RECORDS = ("manifest.json", "dataset_infos.json")  # about a data set, not of it


def files_of(place: str | Path) -> list[Path]:
    """The data files of a folder, in order; or the file itself. InputError for a folder without any."""
    place = Path(place)
    if not place.is_dir():
        return [place]
    visible = [path for path in place.rglob("*") if not any(part[0] == "." for part in path.relative_to(place).parts)]
    found = sorted(path for path in visible if path.suffix in READERS and path.name not in RECORDS and path.is_file())
    if not found:
        raise InputError(f"{place}: no data file in this folder ({', '.join(READERS)})")
    return found


def read(path: Path) -> Iterator[tuple[str, object]]:
    """(where, row) of one file, by its ending. InputError for a file that is absent or not what its ending says."""
    if path.suffix not in READERS:
        raise InputError(f"{path}: ending {path.suffix or 'missing'}; allowed: {', '.join(READERS)}")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        yield from READERS[path.suffix](path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: {error}") from error


def digest(row: dict) -> str:
    """Of a raw row, in 16 hexadecimal digits: the same item in every arm, seed, prompt format and kind of file."""
    text = json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _json_lines(path: Path) -> Iterator[tuple[str, object]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                row = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise InputError(f"{where}: not UTF-8: {error}") from error
            except json.JSONDecodeError as error:
                raise InputError(f"{where}: not JSON: {error}") from error
            yield where, row


def _json_list(path: Path) -> Iterator[tuple[str, object]]:
    with path.open(encoding="utf-8") as file:
        text = file.read(CHUNK).lstrip()
        if text[:1] != "[":
            raise InputError(f"{path}: {_what_else(text + file.read())}")
        decode, at, number, ended = json.JSONDecoder().raw_decode, 1, 0, False
        while True:
            at = _after_space(text, at)
            if at < len(text) and text[at] == "]":
                return
            try:
                row, end = decode(text, at)
                cut = _after_space(text, end) == len(text) and not ended  # a number may go on in the next piece
            except json.JSONDecodeError as error:
                if ended:
                    raise InputError(f"{path}: not JSON: {error}") from error
                cut = True
            if cut:
                more = file.read(max(CHUNK, len(text) - at))
                text, at, ended = text[at:] + more, 0, not more
                continue
            number += 1
            yield f"{path}: row {number}", row
            at = _after_space(text, end)
            if text[at : at + 1] not in (",", "]"):
                raise InputError(f"{path}: not JSON: expected , or ] after row {number}")
            at += text[at] == ","


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _what_else(text: str) -> str:
    try:
        return f"expected one JSON list of rows, found {type(json.loads(text)).__name__}"
    except json.JSONDecodeError as error:
        return f"not JSON: {error}"


def _parquet(path: Path) -> Iterator[tuple[str, dict]]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as table:
        rows = (row for batch in table.iter_batches() for row in batch.to_pylist())
        yield from ((f"{path}: row {number}", row) for number, row in enumerate(rows, start=1))


def _csv(path: Path) -> Iterator[tuple[str, dict]]:
    """Types as the `datasets` library finds them, so that a row is the same, and has the same digest, as in a task."""
    import pandas as pd
    import pyarrow

    with pd.read_csv(path, iterator=True, chunksize=10_000) as chunks:
        rows = (row for chunk in chunks for row in pyarrow.Table.from_pandas(chunk).to_pylist())
        yield from ((f"{path}: row {number}", row) for number, row in enumerate(rows, start=1))


READERS = {".jsonl": _json_lines, ".json": _json_list, ".parquet": _parquet, ".csv": _csv}
