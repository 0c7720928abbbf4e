"""Which layers of this model should one adapt to this data? A short study, from a model and a JSONL file to the answer.

    python -m colocate.suggest --model MODEL --data FILE [--cores N] [more overlays] [options for snakemake]
    make suggest MODEL=... DATA=... ARGS="..."

MODEL is a name out of config/config.yaml, a folder with safetensors, or hf:ORG/NAME[@COMMIT] (without a commit, today's
is pinned). FILE holds instruction data in any schema of `colocate.instructions`. Everything that can be wrong with
either is said before anything large is downloaded or run.

The study is an overlay, results/{study}/overlay.yaml, which may be edited and run again: LoRA of equally many trainable
parameters on the layers that the sensitivity profile names, on early, late, middle, random and all layers, two seeds
each, compared by their loss on held-out rows of the data. One mini benchmark of a few items guards against collapse.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from colocate import files, instructions, mixtures
from colocate.errors import InputError
from colocate.geometry import config_geometry, read_geometry, read_hub_json

CONFIG = Path("config/config.yaml")
REFERENCE = "lora_sensitive"
RIVALS = ("standard_lora", "mid_block", "early", "late")
RANDOM = "lora_random"
FEWEST_ROWS = 8
MOST_HELDOUT = 40  # rows of validate and of test, each
BENCHMARK, ITEMS = "mini_arc", 8


def slug(text: str) -> str:
    """A name that the workflow takes: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def model_entry(model: str, catalogue: dict) -> tuple[str, dict]:
    """Name and config entry of a model; of one in the catalogue, the entry that is there already is left as it is.

    InputError for an unknown name, a folder without a usable model, a hub model that cannot be had.
    """
    if model in catalogue:
        return model, {}
    if model.startswith("hf:"):
        name, entry = _hub_entry(model)
        return _free(name, catalogue), entry
    folder = Path(model.removeprefix("path:")).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"MODEL: found {model!r}; allowed: a folder with config.json and safetensors, hf:ORG/NAME@COMMIT, or a "
            f"name out of {CONFIG}: {', '.join(sorted(catalogue))}"
        )
    found = read_geometry(folder)
    return _free(slug(folder.resolve().name), catalogue), {
        "source": f"path:{folder.resolve()}",
        "geometry": _planning(found),
    }


def _free(name: str, catalogue: dict) -> str:
    """A name that the catalogue does not have: an overlay would change that entry, not replace it."""
    return f"my-{name}" if name in catalogue else name


def _planning(found: dict) -> dict:
    return {key: found[key] for key in ("n_layers", "n_heads", "n_kv_heads", "head_dim", "hidden", "ffn", "vocab")}


def _hub_entry(model: str) -> tuple[str, dict]:
    from huggingface_hub import HfApi, hf_hub_download

    repo, _, revision = model.removeprefix("hf:").partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise InputError(f"MODEL: found {model!r}; allowed: hf:ORG/NAME or hf:ORG/NAME@COMMIT")
    try:
        commit = HfApi().model_info(repo, revision=revision or None).sha
        path = hf_hub_download(repo, "config.json", revision=commit)
    except Exception as error:  # the hub's client passes on errors of its HTTP library, whichever that is
        raise InputError(f"MODEL: {model}: not found or not reachable: {type(error).__name__}: {error}") from error
    geometry = config_geometry(read_hub_json(Path(path), f"{repo}/config.json"), f"{repo}/config.json")
    return slug(repo.split("/")[1]), {"source": f"hf:{repo}", "revision": commit, "geometry": geometry}


def mixture_source(data: str | Path) -> dict:
    """The source of the training mixture that a file is: split by its groups, a quarter of the rows each for validate
    and test, 40 at most. InputError with file and line for a row that fits no schema, and for too few rows."""
    path = Path(data).expanduser()
    rows = instructions.read_rows(path)
    if len(rows) < FEWEST_ROWS:
        raise InputError(
            f"DATA: {path} has {len(rows)} rows; allowed: at least {FEWEST_ROWS}, since a quarter each is held out to "
            "choose the layers and to quote the result (some hundred make a difference visible)"
        )
    heldout = min(MOST_HELDOUT, max(2, len(rows) // 4))
    source = {"kind": "jsonl", "path": str(path.resolve()), "heldout": heldout}
    with tempfile.TemporaryDirectory() as folder:  # a few questions asked again and again cannot be split
        mixtures.build_mixture([source], 0, folder)
    return source


def overlay(name: str, entry: dict, source: dict) -> dict:
    """The short study of one model on one source of data, on top of config/config.yaml."""
    matched = {"budget": f"match {REFERENCE}"}
    return {
        "study": f"suggest-{name}-{slug(Path(source['path']).stem)}",
        "select": {
            "models": [name],
            "profiles": ["sensitivity_all", "rope_output"],
            "arms": ["base", REFERENCE, *RIVALS, RANDOM],
            "benchmarks": [BENCHMARK],
            "arm_profiles": [],
        },
        "arms": {arm: matched for arm in RIVALS},
        "benchmarks": {BENCHMARK: {"limit": ITEMS}},
        "mixture": {"sources": [source]},
        "training": {"max_tokens": 16000, "max_length": 1024, "heldout_examples": MOST_HELDOUT},
        "statistics": {"reference": REFERENCE, "primary_against": [*RIVALS, RANDOM], "surrogates": 999},
    } | ({"models": {name: entry}} if entry else {})


def prepare(model: str, data: str) -> tuple[Path, Path]:
    """Check model and data and write the overlay; returns its path and that of the recommendation it leads to."""
    if not CONFIG.is_file():
        raise InputError(f"{CONFIG}: not found; run this in the folder of the project")
    for name, value in (("MODEL", model), ("DATA", data)):
        if not value:
            raise InputError(f"{name} is missing: make suggest MODEL=FOLDER (or hf:ORG/NAME@COMMIT) DATA=my.jsonl")
    if not Path(data).expanduser().exists():
        raise InputError(f"DATA: {data}: no such file")
    catalogue = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["models"]
    name, entry = model_entry(model, catalogue)
    study = overlay(name, entry, mixture_source(data))
    folder = Path("results") / study["study"]
    header = f"# Which layers of {model} to adapt to {data}: written by `make suggest`, run on top of {CONFIG}.\n"
    files.write_text(folder / "overlay.yaml", header + yaml.safe_dump(study, sort_keys=False, allow_unicode=True))
    return folder / "overlay.yaml", folder / name / "statistics/recommendation.json"


def main(argv: list[str] | None = None) -> int:
    """Run the short study and print what it recommends; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make suggest", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="", help="a folder, hf:ORG/NAME@COMMIT, or a name out of the config")
    parser.add_argument("--data", default="", help="instruction data, JSONL")
    parser.add_argument("--cores", default="all")
    args, options = parser.parse_known_args(argv)
    try:
        study, answer = prepare(args.model, args.data)
    except InputError as error:
        print(f"suggest: {error}", file=sys.stderr)
        return 2
    print(f"The short study: {study} (edit it and run this again, or add arms of your own)", flush=True)
    configs = ["--configfile", str(CONFIG), str(study)]
    command = [sys.executable, "-m", "snakemake", "--cores", args.cores, str(answer), *configs, *options]
    status = subprocess.run(command, check=False).returncode
    if status or not answer.is_file():  # a dry run leaves none
        return status
    print(f"\n{json.loads(answer.read_text(encoding='utf-8'))['text']}\n\n{answer}")
    print(f"The evidence, as a report: snakemake --cores {args.cores} {shlex.join(configs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
