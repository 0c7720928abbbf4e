"""What a stranger does wrong, and what is said: malformed input stops before any expensive job, with a message that
names the place and what was found, and what is allowed or what to do."""

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from colocate import cluster, config, downloads, driver, mixtures, models, pairs, preparation, suggest
from colocate.errors import InputError
from conftest import ROOT
from tiny import GEOMETRY, edit_config

GEOMETRY_TEXT = json.dumps(GEOMETRY)
MODEL = f"select: {{models: [mine]}}\nmodels:\n  mine:\n    source: SOURCE\n    geometry: {GEOMETRY_TEXT}\n"
ROW = {
    **{"id": "sum-01", "domain": "mathematics", "language": "en", "prompt": "1 + 1 =", "correct": " 2"},
    **{"incorrect": " 3", "incorrect2": " 4", "tags": ["core"]},
}
TASK = {"task": "mini_arc", "source": "builtin"}
create = runpy.run_path(str(ROOT / "envs/create.py"))


@dataclass
class Place:
    """Where a case may write, and what it may break."""

    folder: Path
    model: Path  # a copy of a sound model
    patch: pytest.MonkeyPatch

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path


def overlay(text: str | bytes) -> Callable[[Place], None]:
    """The default study with this overlay, as the workflow reads both."""

    def cause(place: Place) -> None:
        os.chdir(ROOT)
        written = text if isinstance(text, bytes) else text.replace("HERE", str(place.folder)).encode()
        files = [ROOT / "config/config.yaml", place.write("mine.yaml", written)]
        config.config_files.check(files)
        merged = yaml.safe_load(files[0].read_text())
        update_config(merged, yaml.safe_load(files[1].read_text()) or {})
        study = config.complete(merged, files)
        config.check_machine(study, files, study["datasets_root"])

    return cause


def rows(*lines: str) -> Callable[[Place], None]:
    """Pairs in a file of the study's own."""

    def cause(place: Place) -> None:
        problems = pairs.check(place.write("pairs.jsonl", "\n".join(lines) + "\n"))
        raise InputError("\n".join(problems))

    return cause


def mixture(content: str) -> Callable[[Place], None]:
    def cause(place: Place) -> None:
        place.write("mine.jsonl", content)
        overlay("mixture:\n  sources:\n    - {kind: jsonl, path: HERE/mine.jsonl}\n")(place)

    return cause


def task(folder: str | None = str(ROOT / "data/benchmarks"), **entry) -> Callable[[Place], None]:
    """A benchmark whose task is looked up: the first step of its evaluation, before the model is loaded."""

    def cause(place: Place) -> None:
        from colocate.evaluation import tasks

        folders = {"benchmarks_dir": Path(folder), "datasets_dir": place.folder, "cache_dir": place.folder}
        tasks.load(TASK | entry, seed=0, **folders)

    return cause


def own_task(text: str) -> Callable[[Place], None]:
    def cause(place: Place) -> None:
        task(task=str(place.write("own/own.yaml", text)))(place)

    return cause


def model(break_it: Callable[[Path], None], **geometry) -> Callable[[Place], None]:
    """Fetching and preparing a damaged folder: the first two jobs of a model."""

    def cause(place: Place) -> None:
        break_it(place.model)
        source = f"path:{place.model}"
        downloads.fetch_model(source, place.folder / "download")
        preparation.prepare_model(
            source, place.folder / "download", place.folder / "plain", geometry=GEOMETRY | geometry
        )

    return cause


def cut(path: Path) -> None:
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def as_pickle(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def adapter(break_it: Callable[[Path, Place], object]) -> Callable[[Place], None]:
    """Loading a saved adapter that something happened to."""

    def cause(place: Place) -> None:
        from colocate import adapters
        from colocate.budget import AdapterSpec

        spec = AdapterSpec(lora_layers=(1,), garfa_layers=(2,), rank=2, alpha=4, targets=("q_proj",))
        saved = place.folder / "adapter"
        adapters.save(adapters.adapt(models.load_model(place.model, "float32", "cpu"), spec), saved)
        if break_it(saved, place) is None:
            adapters.load(models.load_model(place.model, "float32", "cpu"), saved)

    return cause


def damaged(saved: Path, place: Place) -> None:
    (saved / "adapter_model.safetensors").write_bytes(b"{")


def other_base(saved: Path, place: Place) -> None:
    from tiny import make_model

    make_model(place.model, seed=1)


def merged(saved: Path, place: Place) -> bool:
    from colocate.merge import merge

    merge(place.model, saved, place.folder / "merged")
    return True


def spec(**settings) -> Callable[[Place], None]:
    def cause(place: Place) -> None:
        from colocate.budget import AdapterSpec, count_parameters
        from colocate.geometry import read_geometry

        geometry = read_geometry(place.model)
        entry = {"lora_layers": (1,), "garfa_layers": (), "rank": 2, "alpha": 4, "targets": ("q_proj",)} | settings
        count_parameters(geometry["linear_shapes"], geometry["n_kv_heads"], AdapterSpec(**entry))

    return cause


def no_sandbox(place: Place) -> None:
    from colocate.evaluation import sandbox

    place.patch.setattr(sandbox, "_candidates", list)
    sandbox._bubblewrap.cache_clear()
    try:
        with sandbox.use("bubblewrap"):
            sandbox.run("def one(): return 1")
    finally:
        sandbox._bubblewrap.cache_clear()


def no_gpu(place: Place) -> None:
    import torch

    place.patch.setattr(torch.cuda, "is_available", lambda: False)
    models.resolve_device("cuda")


def no_bitsandbytes(place: Place) -> None:
    place.patch.setattr(models, "find_spec", lambda name: None)
    models.load_model(place.model, "nf4", "cpu")


def offline(place: Place) -> None:
    place.patch.setenv("HF_HUB_OFFLINE", "1")
    downloads.fetch_model("hf:someone/something", place.folder / "download", revision="0" * 40)


def running_already(place: Place) -> None:
    other = "import sys, time; from colocate import driver; driver.claim(sys.argv[1]); print('held', flush=True)"
    command = [sys.executable, "-c", f"{other}; time.sleep(60)", str(place.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            holder.stdout.readline()
            place.patch.setattr(driver, "_held", [])
            driver.claim(place.folder)
        finally:
            holder.kill()


def no_slurm(place: Place) -> None:
    place.patch.setenv("PATH", str(place.folder))
    cluster.problems(place.folder, "squeue")


def python(version: tuple, has_venv: bool = True) -> Callable[[Place], None]:
    return lambda place: create["check_python"](version, has_venv, "/usr/bin/python3")


def suggestion(n_rows: int, which: str | None = "") -> Callable[[Place], None]:
    def cause(place: Place) -> None:
        os.chdir(ROOT)
        chat = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]
        data = "" if not n_rows else place.write("mine.jsonl", (json.dumps({"messages": chat}) + "\n") * n_rows)
        suggest.prepare(str(place.model) if which == "" else which or "", str(data))

    return cause


CASES = {
    # ---- the config as YAML
    "misspelt key": (
        overlay("seeds: [0]\nbenchmark: {}\n"),
        "the top level (mine.yaml:2): unknown key benchmark; did you mean benchmarks?",
    ),
    "key without a value": (overlay("seeds:\n"), "config: seeds (mine.yaml:1): found nothing", "leave the key out"),
    "tab": (overlay("training:\n\tepochs: 1\n"), "mine.yaml:2: not YAML", "indent with spaces, not with tabs"),
    "open bracket": (
        overlay("seeds: [0, 1\ndevice: cpu\n"),
        "mine.yaml:2: not YAML",
        "a missing colon, quote or brack",
    ),
    "a list at the top": (overlay("- seeds\n"), "mine.yaml:1: found a list", "such as `seeds: [0]`"),
    "key twice": (overlay("seeds: [0]\ndevice: cpu\nseeds: [1]\n"), "mine.yaml:3: key seeds is there twice", "line 1"),
    "not UTF-8": (overlay("study: caf\u00e9\n".encode("latin-1")), "mine.yaml: not UTF-8", "save it as UTF-8"),
    "5e-4": (overlay("training:\n  lr_lora: 5e-4\n"), "training.lr_lora (mine.yaml:2): found '5e-4'", "5.0e-04"),
    "mask without quotes": (overlay("layer_sets: {middle: {segments: 01110}}\n"), "found 584", "put it in quotes"),
    # ---- the config's values
    "study with spaces": (overlay("study: My Study\n"), "study (mine.yaml:1): found 'My Study'", "such as smollm2"),
    "unknown device": (overlay("device: tpu\n"), "found 'tpu'", "one of auto, cpu, cuda"),
    "negative seed": (overlay("seeds: [0, -1]\n"), "seeds.1 (mine.yaml:1): found -1", "at least 0"),
    "unknown arm": (overlay("select: {arms: [base, colocatd]}\n"), "select.arms", "did you mean colocated?"),
    "without base": (overlay("select: {arms: [colocated]}\n"), "a list with base in it"),
    "primary profile": (
        overlay("select: {profiles: [sensitivity_all, probe]}\n"),
        "statistics.primary_rope",
        "that select.profiles holds: add one there",
    ),
    "rule without by": (
        overlay("layer_sets: {mine: {top: 3}}\n"),
        "layer_sets.mine (mine.yaml:1): by is missing; add by: a profile",
    ),
    "unknown profile": (
        overlay("layer_sets: {mine: {top: 3, by: sensitivity}}\n"),
        "layer_sets.mine.by",
        "did you mean sens",
    ),
    "two rules": (overlay("layer_sets: {mine: {top: 3, by: probe, random: 3}}\n"), "exactly one of top, bottom"),
    "more layers than there are": (
        overlay("layer_sets: {sensitive: {top: 31, by: sensitivity_all}}\n"),
        *("layer_sets.sensitive (mine.yaml:1): found 31", "up to 30 layers", "model smollm2-135m, arm colocated"),
    ),
    "layer beyond the last": (
        overlay("layer_sets: {x: {layers: [29, 30]}}\narms: {y: {lora: x}}\nselect: {arms: [base, colocated, y]}\n"),
        *("layer_sets.x (mine.yaml:1): layers [30] do not exist", "layers 0 to 29"),
    ),
    "unknown set": (
        overlay("arms:\n  mine: {lora: senstive}\n"),
        "arms.mine.lora (mine.yaml:2)",
        "did you mean sensitive",
    ),
    "arm of nothing": (
        overlay("arms: {mine: {rank: 4}}\n"),
        "arms.mine (mine.yaml:1)",
        "lora, garfa and/or temperature",
    ),
    "budget of an unknown arm": (
        overlay("arms: {mine: {lora: first, budget: match colocate}}\n"),
        "arms.mine.budget",
        "did you mean colocated?",
    ),
    "arm of an unknown model": (overlay("arms: {random: {models: [smollm]}}\n"), "arms.random.models", "smollm2-135m"),
    "unknown primary arm": (overlay("statistics: {primary_against: [rando]}\n"), "did you mean random?"),
    "two learning rates": (overlay("training: {tuning: {lr_lora: [1.0e-4, 1.0e-3]}}\n"), "or at least 3 rates"),
    "hub model without commit": (
        overlay(MODEL.replace("SOURCE", "hf:a/b")),
        "models.mine (mine.yaml:3)",
        "revision is missing; add revision: the commit",
    ),
    "wheel without digest": (
        overlay(MODEL.replace("SOURCE", "pypi:a==1")),
        "models.mine (mine.yaml:3)",
        "sha256 is missing; add sha256: the digest",
    ),
    "model by URL": (
        overlay(MODEL.replace("SOURCE", "https://x/y")),
        "models.mine.source (mine.yaml:4)",
        "such as pypi:",
    ),
    "heads that do not divide": (
        overlay("models: {smollm2-135m: {geometry: {n_kv_heads: 2}}}\n"),
        "found 2",
        "a divisor of n_heads = 9",
    ),
    "misspelt metric": (overlay("profiles: {mine: {metric: sensitivty}}\n"), "did you mean sensitivity?"),
    "setting of another metric": (overlay("profiles: {mine: {metric: probe, method: local}}\n"), "settings of probe: "),
    # ---- what the config names on this machine
    "model that is not there": (
        overlay(MODEL.replace("SOURCE", "path:HERE/no")),
        "models.mine.source (mine.yaml:4)",
        "not there",
    ),
    "pairs that are not there": (lambda place: pairs.read_pairs("nowhere.jsonl"), "nowhere.jsonl: cannot be read"),
    "mixture that is not there": (
        overlay("mixture:\n  sources:\n    - {kind: jsonl, path: HERE/no.jsonl}\n"),
        *("mixture.sources[0].path (mine.yaml:3)", "no.jsonl, which is not there"),
    ),
    "mixture of another schema": (mixture('{"text": "hello"}\n'), "mine.jsonl:1: fields ['text'] fit no known schema"),
    "mixture that is not JSON": (mixture('{"messages": \n'), "mine.jsonl:1: not JSON"),
    "empty mixture": (mixture(""), "mine.jsonl: the file is empty", "expected one JSON object a line"),
    "mirror without the data": (
        overlay("datasets_root: HERE\nselect: {benchmarks: [gsm8k]}\n"),
        "datasets_root (mine.yaml:1)",
        "no data set openai/gsm8k",
    ),
    "unknown built-in task": (
        overlay("benchmarks: {x: {task: mini_mmul}}\nselect: {benchmarks: [x]}\n"),
        "benchmarks.x.task",
        "did you mean mini_mmlu?",
    ),
    "unknown task of lm-eval": (
        overlay("benchmarks: {x: {task: gsm8kk, source: openai/gsm8k}}\nselect: {benchmarks: [x]}\n"),
        "did you mean gsm8k?",
    ),
    "task file that is not there": (
        overlay("benchmarks: {x: {task: HERE/no.yaml}}\nselect: {benchmarks: [x]}\n"),
        "no.yaml, which is not there",
    ),
    # ---- pairs
    "answer without its space": (
        rows(json.dumps(ROW | {"correct": "2"})),
        "pairs.jsonl:1: correct: '2'",
        "exactly one space",
    ),
    "half a row": (rows(json.dumps(ROW), '{"id": "sum-02"'), "pairs.jsonl:2: not one JSON object"),
    "id twice": (rows(json.dumps(ROW), json.dumps(ROW | {"prompt": "0 + 2 ="})), "already used at", "pairs.jsonl:1"),
    "field missing": (rows(json.dumps({k: v for k, v in ROW.items() if k != "incorrect2"})), "incorrect2: missing"),
    "no such language": (rows(json.dumps(ROW | {"language": "english"})), "ISO 639-1, such as 'en'"),
    # ---- tasks, before a model is loaded
    "unknown subset": (task(subset=["physics"]), "subset of mini_arc: found 'physics'", "allowed: "),
    "YAML without a task": (own_task("doc_to_text: x\n"), "own.yaml: it has no key `task`"),
    "task with its own runner": (
        own_task("task: own\nunsafe_code: true\nmetric_list: [{metric: exact_match}]\n"),
        "outside the sandbox",
        "allowed: ",
    ),
    # ---- models, in their first two jobs
    "pickled weights": (model(as_pickle), "pytorch_model.bin: pickle runs code", "allowed: safetensors or GGUF"),
    "weights cut off": (model(cut), "model.safetensors: found", "fetch or copy it again"),
    "config.json cut off": (model(lambda path: (path / "config.json").write_text("{")), "config.json: not JSON"),
    "another geometry": (
        model(lambda path: None, n_layers=5),
        "geometry differs: n_layers: found 4, expected 5",
        "correct models.NAME.geometry",
    ),
    "model without RoPE": (
        model(lambda path: edit_config(path, model_type="gpt2", rope_parameters=..., rope_theta=...)),
        *("model_type: found 'gpt2'", "expected a decoder-only model with rotary position encoding"),
    ),
    "quantised weights": (
        model(lambda path: edit_config(path, quantization_config={"quant_method": "gptq"})),
        "found 'gptq'",
        "expected unquantised",
    ),
    # ---- adapters, before anything is trained or measured with them
    "adapter that is not there": (
        adapter(lambda saved, place: (saved / "adapter_config.json").unlink()),
        "expected an adapter folder",
    ),
    "adapter of another base": (adapter(other_base), "an adapter of another base model"),
    "adapter cut off": (adapter(damaged), "adapter_model.safetensors: damaged"),
    "merging what no model can hold": (adapter(merged), "has GARFA in layers [2]", "use colocate.adapters.load"),
    "module that is not there": (spec(targets=("q_prj",)), "q_prj"),
    "layer that is not there": (spec(lora_layers=(4,)), "layer 4 does not exist", "layers 0 to 3"),
    # ---- the machine
    "old Python": (python((3, 9, 2)), "Python 3.11 or newer is needed", "make env PYTHON=python3.12"),
    "Python without venv": (python((3, 11, 2), False), "apt-get install python3.11-venv"),
    "no sandbox": (no_sandbox, "no program `bwrap` was found", "none-accept-risk"),
    "no GPU": (no_gpu, "device: found cuda, but torch sees no GPU", "allowed: auto, cpu"),
    "no bitsandbytes": (no_bitsandbytes, "dtype: nf4 needs bitsandbytes", "make env EXTRAS=gpu"),
    "no network": (offline, "HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE"),
    "two runs in one folder": (running_already, "another run holds", "stop it with: kill -INT"),
    "no SLURM": (no_slurm, "no such program on PATH", "login node"),
    "suggest without a model": (suggestion(0, which=None), "MODEL is missing: make suggest MODEL="),
    "suggest with two rows": (suggestion(2), "mine.jsonl has 2 rows", "at least 8"),
    "suggest for an unknown model": (suggestion(20, "smolm"), "MODEL: found 'smolm'", "smollm2-135m"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_malformed_input_is_refused_in_words(name, copy, tmp_path, monkeypatch):
    cause, *said = CASES[name]
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InputError, create["CannotCreate"])) as raised:
        cause(Place(tmp_path, copy, monkeypatch))
    message = str(raised.value).replace(f"{tmp_path}/", "").replace("../", "")
    message = re.sub(r"\S*/(mine\.yaml)", r"\1", message)
    if report := os.environ.get("COLOCATE_SHOW_ERRORS"):
        with Path(report).open("a") as file:
            file.write(f"{name}\n    {message}\n")
    assert [words for words in said if words not in message] == [], message
    assert "Traceback" not in message
    assert len(message) < 1500, "a person has to read this"


def test_there_are_many_cases():
    assert len(CASES) >= 40


def test_errors_say_where_a_key_stands(tmp_path):
    """Of two files that give a key the later one counts; names may hold dots; a missing key is that of its parent."""
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("models:\n  llama-3.1:\n    dtype: auto\nseeds: [0]\npairs: {made: [{n: 1}]}\n")
    second.write_text("# mine\nseeds: [1]\n")
    place = config.config_files.place
    assert place("seeds", [first, second]) == f"{second}:2"
    assert place("models.llama-3.1.dtype", [first, second]) == f"{first}:3"
    assert place("models.llama-3.1.source", [first, second]) == f"{first}:2"
    assert place("pairs.made[0].n", [first]) == place("pairs.made.0.n", [first]) == f"{first}:5"
    assert place("device", [first, second]) == ""


def test_training_data_is_refused_by_the_first_job_that_reads_all_of_it(tmp_path):
    """The workflow looks at the first rows when it is parsed; a later one stops the mixture, which trains nothing."""
    chat = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]
    good = [json.dumps({"messages": [chat[0] | {"content": f"How {i}?"}, chat[1]]}) for i in range(150)]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join([*good, '{"messages": []}']) + "\n")
    with pytest.raises(InputError, match=r"mine\.jsonl:151: "):
        mixtures.build_mixture([{"kind": "jsonl", "path": str(path)}], 0, tmp_path / "out")
