"""Write files whole or not at all: a writer fills a private name in the same folder, flushes it, then renames it.

And look, before work is spent on it, whether a place can be written and whether files are what was once written.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from colocate.errors import InputError

LEAST_FREE = 100 * 2**20  # bytes: logs, tables and a small adapter
Progress = Callable[[float, str], None]


def silent(fraction: float, note: str = "") -> None:
    """A progress callback that shows nothing. `fraction` is the share done, 0 to 1."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a private path beside `path`; on success it is moved into place, on an error it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    private = Path(name)
    try:
        yield private
        with private.open("rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        private.chmod(0o666 & ~umask)  # mkstemp makes 0600, which a shared cluster folder could not read
        private.replace(path)
    finally:
        private.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    with replacing(path) as private:
        private.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value) -> None:
    """Canonical JSON: sorted keys, one-space indent, a final newline; NaN is an error."""
    write_text(path, json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_csv(path: str | Path, table) -> None:
    """A pandas table with a header and full precision (repr of each float), no index."""
    with replacing(path) as private:
        table.to_csv(private, index=False, lineterminator="\n")


def write_parquet(path: str | Path, table) -> None:
    with replacing(path) as private:
        table.to_parquet(private, index=False)


def sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_places(folders: Iterable[str | Path], least_free: int = LEAST_FREE) -> None:
    """InputError for a folder in which nothing can be written, or with less than `least_free` bytes left.

    A folder that does not exist yet is judged by the nearest one above it that does.
    """
    for folder in map(Path, folders):
        place = _existing(folder)
        if not os.access(place, os.W_OK | os.X_OK):
            raise InputError(
                f"{place}: cannot be written (read-only, or not yours): make it writable, or run elsewhere"
            )
        free = shutil.disk_usage(place).free
        if free < least_free:
            raise InputError(
                f"{place}: {free // 2**20} MiB free on its disk, at least {least_free // 2**20} are needed: make room"
            )


def check_room(sizes: dict[str | Path, float]) -> None:
    """InputError where a disk has less room than what is to be written on it. `sizes`: {folder: bytes}.

    Folders on one disk share its room; one that does not exist yet is judged by the nearest above it that does.
    """
    disks: dict[int, list[tuple[Path, float]]] = {}
    for folder, size in sizes.items():
        place = _existing(Path(folder))
        disks.setdefault(place.stat().st_dev, []).append((place, size))
    for parts in disks.values():
        place, needed = parts[0][0], sum(size for _, size in parts)
        free = shutil.disk_usage(place).free
        if free < needed + LEAST_FREE:
            raise InputError(
                f"{place}: {free / 2**30:.1f} GiB free on its disk, and this run will leave about {needed / 2**30:.1f} "
                "GiB there: make room, select less, or run on a larger disk (what is left to run: make plan)"
            )


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def verify(manifest: str | Path) -> None:
    """InputError unless each file that a manifest {"sha256": {name: digest}} lists is beside it, as it was written."""
    manifest = Path(manifest)
    if not manifest.is_file():
        raise InputError(f"{manifest}: is missing, and with it the digests of the files beside it")
    for name, expected in read_json(manifest)["sha256"].items():
        path = manifest.with_name(name)
        if not path.is_file() or sha256(path) != expected:
            found = "is damaged: it is not what was written" if path.is_file() else "is missing"
            raise InputError(f"{path}: {found} (sha256 in {manifest.name}); delete it, and `snakemake` makes it again")
