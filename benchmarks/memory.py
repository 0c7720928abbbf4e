"""Peak memory of each stage against what the workflow asks for (colocate.needs), each stage in a process of its own.

    python benchmarks/memory.py                    SmolLM2-135M-Instruct, three random models, CPU; minutes a training
    python benchmarks/memory.py --models tiny      seconds
    python benchmarks/memory.py --device cuda      the cards' memory too

Printed: measured and estimated MiB and their ratio. Measured is the largest resident memory of the process (VmHWM), or
the largest allocation on the card. Exit status 1 if an estimate is more than 15 % off. The settings are those of
config/config.yaml; random models have its geometry keys and the tests' tokenizer of bytes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = 0.15
SMOLLM2 = "smollm2-135m"
# Rows of the embedding of random models are more than the bytes that their tokenizer knows: as in real ones.
SHAPES = {
    "tiny": {"n_layers": 4, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16, "hidden": 64, "ffn": 96, "vocab": 259},
    "small": {"n_layers": 8, "n_heads": 8, "n_kv_heads": 2, "head_dim": 64, "hidden": 512, "ffn": 1536, "vocab": 16384},
    "wide": {"n_layers": 4, "n_heads": 16, "n_kv_heads": 4, "head_dim": 64, "hidden": 1024, "ffn": 4096, "vocab": 4096},
}  # fmt: skip
STAGES = {  # what a job of the rule is about
    "sensitivity": ("profile_layers", {"profile": "sensitivity_all"}),
    "rope_output": ("profile_layers", {"profile": "rope_output"}),
    "rope_local": ("profile_layers", {"profile": "rope_local"}),
    "late": ("train_arm", {"arm": "late"}),
    "colocated": ("train_arm", {"arm": "colocated"}),
    "random": ("train_arm", {"arm": "random"}),
    "mid_block": ("train_arm", {"arm": "mid_block"}),
    "standard_lora": ("train_arm", {"arm": "standard_lora"}),
    "all_full_rank": ("train_arm", {"arm": "standard_lora_full_rank"}),
    "mini_arc": ("evaluate_arm", {"benchmark": "mini_arc", "arm": "base"}),
    "mini_math": ("evaluate_arm", {"benchmark": "mini_math", "arm": "base"}),
}
# As the workflow starts its jobs (workflow/rules/common.smk): it decides how much freed memory glibc keeps.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "134217728", "MALLOC_TRIM_THRESHOLD_": "1073741824"}


def study(model: str, dtype: str, device: str) -> dict:
    """The default study on one model."""
    from colocate import config

    values = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    if model in SHAPES:
        # Stored as float32, as a converted GGUF file is.
        values["models"][model] = {"source": "path:random.gguf", "geometry": SHAPES[model]}
    values["models"][model]["dtype"] = dtype
    values["select"]["models"], values["device"] = [model], device
    return config.complete(values)


def make(shape: str, folder: Path) -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from tiny import make_model

    g = SHAPES[shape]
    keys = {"vocab": "vocab_size", "hidden": "hidden_size", "ffn": "intermediate_size", "n_layers": "num_hidden_layers",
            "n_heads": "num_attention_heads", "n_kv_heads": "num_key_value_heads", "head_dim": "head_dim"}  # fmt: skip
    make_model(folder, max_position_embeddings=8192, **{keys[key]: value for key, value in g.items()})


def run(stage: str, model: str, folder: Path, dtype: str, device: str) -> None:
    """One stage in this process; prints its peak as JSON."""
    import torch

    from colocate import devices

    torch.set_num_threads(1)
    rule, wildcards = STAGES[stage]
    config = study(model, dtype, device)
    with tempfile.TemporaryDirectory() as scratch:
        {"profile_layers": profile, "train_arm": train, "evaluate_arm": evaluate}[rule](
            config, wildcards, folder, dtype, device, Path(scratch)
        )
    print(json.dumps(devices.peak_memory_mib()))


def profile(config: dict, wildcards: dict, folder: Path, dtype: str, device: str, scratch: Path) -> None:
    from colocate import models, profiles
    from colocate.profiles.data import read_data

    entry, pairs = config["profiles"][wildcards["profile"]], config["pairs"]
    tokenizer = models.load_tokenizer(folder)
    data = read_data(pairs["files"], pairs["paraphrases"], pairs["limit"], pairs["texts"], None, tokenizer)
    model = models.load_model(folder, profiles.METRICS[entry["metric"]].dtype or dtype, device)
    profiles.compute(entry["metric"], model, tokenizer, entry | {"seed": 0}, data)


def train(config: dict, wildcards: dict, folder: Path, dtype: str, device: str, scratch: Path) -> None:
    """The arm as the study runs it; only which layers are sensitive is made up here: evenly spaced ones, from 0 on."""
    from colocate import config as configuration
    from colocate import geometry, layer_sets, mixtures, training

    mixtures.build_mixture(config["mixture"]["sources"], 0, scratch)
    g, arm, chosen = geometry.read_geometry(folder), wildcards["arm"], config["training"]
    entry = config["arms"][arm]
    matched = config["arms"][entry["budget"].removeprefix("match ")] if "budget" in entry else None
    rules = {name: config["layer_sets"][name] for name in configuration.arm_sets(config, arm)}
    n, sets = g["n_layers"], {}
    for name, rule in rules.items():
        if "by" in rule:
            k = layer_sets.count(rule["top"], n)
            sets[name] = [i * n // k for i in range(k)]
        elif "random" not in rule:
            sets[name] = layer_sets.select(name, rule, n)
    resolved = layer_sets.resolve(
        arm=arm,
        seed=0,
        entry=entry,
        matched=matched,
        rules=rules,
        training=layer_sets.used_defaults(entry, matched, chosen),
        sets=sets,
        geometry=g,
    )
    out = scratch / "out"
    out.mkdir()
    settings = {key: value for key, value in chosen.items() if key in training.Settings.__dataclass_fields__}
    splits = {split: scratch / f"{split}.jsonl" for split in ("train", "validate", "test")}
    training.train(folder, resolved, splits, settings, seed=0, dtype=dtype, device=device, out=out, scratch=scratch)


def evaluate(config: dict, wildcards: dict, folder: Path, dtype: str, device: str, scratch: Path) -> None:
    from colocate import evaluation

    name = wildcards["benchmark"]
    settings = config["evaluation"] | {"chat_template": "auto"}
    task = config["benchmarks"][name] | {"limit": 12}
    evaluation.evaluate(folder, None, name, task, settings, dtype=dtype, device=device)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*SHAPES, SMOLLM2], choices=[*SHAPES, SMOLLM2])
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=list(STAGES))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        stage, model, folder, dtype, device = chosen.one
        run(stage, model, Path(folder), dtype, device)
        return 0
    from colocate import needs

    off = []
    print(f"{'model':14}{'dtype':10}{'stage':14}{'measured':>10}{'estimate':>10}{'ratio':>7}   MiB")
    with tempfile.TemporaryDirectory() as made:
        for model in chosen.models:
            folder = ROOT / "resources/models" / model if model == SMOLLM2 else Path(made) / model
            if model in SHAPES:
                make(model, folder)
            for dtype in chosen.dtypes:
                for stage in chosen.stages:
                    rule, wildcards = STAGES[stage]
                    command = [sys.executable, __file__, "--one", stage, model, str(folder), dtype, chosen.device]
                    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | MALLOC)
                    if done.returncode:
                        print(f"{model} {dtype} {stage}: failed: {done.stderr.strip().splitlines()[-1]}")
                        off.append((model, dtype, stage))
                        continue
                    peak = json.loads(done.stdout.splitlines()[-1])
                    said = needs.memory(rule, study(model, dtype, chosen.device), {"model": model} | wildcards, dtype)
                    pairs = [("cpu", said.host_mib)] + [("gpu", said.gpu_mib)] * (chosen.device == "cuda")
                    for place, estimate in pairs:
                        ratio = estimate / peak[place]
                        off += [(model, dtype, stage)] * (abs(ratio - 1) > ALLOWED)
                        numbers = f"{peak[place]:10.0f}{estimate:10.0f}{ratio:7.2f}   {place}"
                        print(f"{model:14}{dtype:10}{stage:14}{numbers}", flush=True)
    print(f"{len(off)} of the estimates are more than {ALLOWED:.0%} off")
    return bool(off)


if __name__ == "__main__":
    sys.exit(main())
