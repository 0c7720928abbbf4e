"""Data sets of the Hugging Face hub on this disk: fetched once (network), or in a mirror; checked before they are read.

    resources/datasets/<hub id>/    the data files, README.md (it names configurations and splits), manifest.json
    a mirror                        the same folders, with or without manifest.json

manifest.json: {source, revision (the commit), sha256, files: {path: sha256}}; `sha256` is the digest of the listing,
lines `<sha256>  <path>` sorted by path, as `sha256sum` prints them. Only data is taken: no code, no archive, no pickle.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from colocate import hub_errors
from colocate.errors import InputError
from colocate.files import read_json, sha256, write_json

FETCHED = Path("resources/datasets")
MANIFEST = "manifest.json"
ITEMS = (".jsonl", ".json", ".parquet", ".csv")  # endings of files that hold rows (colocate.rows reads them)
TAKEN = ("*.jsonl", "*.json", "*.parquet", "*.csv", "*.tsv", "*.jsonl.gz", "*.json.gz", "README.md", "LICENSE*")


def fetch(dataset: str, out: Path, *, revision: str | None = None) -> dict:
    """Download a data set (its hub id) into the folder `out`, whole or not at all; returns its manifest.

    `revision`: branch, tag or commit. What a broken download got is kept beside `out` and continued. InputError where
    the data set is absent, gated without a token, or holds no data file.
    """
    from huggingface_hub import HfApi, snapshot_download

    place = f"data set {dataset}, revision {revision or 'main'}"
    try:
        info = HfApi().dataset_info(dataset, revision=revision)
        commit, listed = info.sha, sorted(item.rfilename for item in info.siblings)
        if not any(Path(name).match(pattern) for name in listed for pattern in TAKEN[:-2]):
            raise InputError(f"{place}: no data file among {', '.join(listed) or 'nothing'}; taken: {', '.join(TAKEN)}")
        partial = out.parent / f".{out.name}.{commit}.partial"
        snapshot_download(
            dataset, repo_type="dataset", revision=commit, local_dir=partial, allow_patterns=list(TAKEN), max_workers=4
        )
    except InputError:
        raise
    except Exception as error:  # the hub's client passes on errors of its HTTP library, whichever that is
        raise InputError(hub_errors.explain(error, f"datasets/{dataset}", place)) from error
    shutil.rmtree(partial / ".cache", ignore_errors=True)
    listing = {path.relative_to(partial).as_posix(): sha256(path) for path in _all_files(partial)}
    manifest = {"source": dataset, "revision": commit, "sha256": _digest(listing), "files": listing}
    write_json(partial / MANIFEST, manifest)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as old:
        if out.exists():
            out.rename(Path(old) / "replaced")
        partial.rename(out)
    return manifest


def folder(dataset: str, root: str | Path = FETCHED) -> Path:
    """The folder of a data set below `root`. InputError where it is absent or differs from its manifest."""
    place = Path(root) / dataset
    if not place.is_dir():
        raise InputError(
            f"no data set {dataset} in {root}; run the target `fetch` where there is network, or name a mirror that "
            "has it (config: datasets_root, or the variable COLOCATE_DATASETS)"
        )
    if (place / MANIFEST).is_file():
        for name, expected in read_json(place / MANIFEST)["files"].items():
            found = sha256(place / name) if (place / name).is_file() else "no file"
            if found != expected:
                raise InputError(
                    f"{place / name}: sha256: found {found}, expected {expected}; fetch the data set again"
                )
    return place


def root_of(paths: Iterable[Path], dataset: str) -> Path:
    """The folder that holds `dataset`, from the paths of any of its files (as a rule lists them); else FETCHED."""
    for path in paths:
        for parent in Path(path).parents:
            if parent.as_posix() == dataset or parent.as_posix().endswith(f"/{dataset}"):
                return parent.parents[len(Path(dataset).parts) - 1]
    return FETCHED


def mirrored(dataset: str, root: str | Path) -> list[str]:
    """The files of a data set in a mirror, as inputs of a rule. InputError where the mirror lacks it."""
    place = Path(root) / dataset
    if not place.is_dir():
        raise InputError(
            f"datasets_root: {root} has no data set {dataset}; put it there as {place}, or unset datasets_root (and "
            "COLOCATE_DATASETS) to fetch it"
        )
    return [str(path) for path in _all_files(place)]


def _all_files(place: Path) -> list[Path]:
    """Files that are not hidden, in order."""
    found = (path for path in place.rglob("*") if path.is_file())
    return sorted(path for path in found if not any(part[0] == "." for part in path.relative_to(place).parts))


def _digest(listing: dict[str, str]) -> str:
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(listing.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
