"""A toy training: a mixture of short rows, an arm on the tiny model, one run of colocate.training.train."""

import json

import torch

from colocate import training
from colocate.budget import AdapterSpec, count_parameters
from colocate.geometry import read_geometry
from colocate.training_data import Settings
from tiny import make_tokenizer

TARGETS = ("q_proj", "v_proj", "down_proj")
SETTINGS = {"max_tokens": 3000, "epochs": 2, "tokens_per_step": 300, "max_length": 256, "checkpoint_every": 2}
FILES = [f"adapter_{name}" for name in ("config.json", "model.safetensors")]
FILES += ["alphas.csv", "heldout.parquet", "temperatures.csv", "training_log.csv"]


def write_mixture(folder):
    """24 / 6 / 5 short rows of different lengths: a byte-level tokenizer spends a token on each character."""
    paths = {}
    for split, n in {"train": 24, "validate": 6, "test": 5}.items():
        rows = []
        for i in range(n):
            question, answer = f"{split[0]}{i} + {i * i}?", f"It is {i + i * i}" + "!" * (i % 4)
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            rows.append({"id": f"{split}-{i}", "group": f"{split}-{i // 2}", "messages": turns})
        paths[split] = folder / f"{split}.jsonl"
        paths[split].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths


def arm(folder, lora=(2, 3), garfa=(1, 3), rank=4, dropout=0.0, targets=TARGETS, **changes):
    geometry = read_geometry(folder)
    spec = AdapterSpec(lora, garfa, rank, 2 * rank, targets)
    n = count_parameters(geometry["linear_shapes"], geometry["n_kv_heads"], spec)
    entry = {"arm": "toy", "seed": 0, "lora_layers": list(lora), "garfa_layers": list(garfa), "rank": rank}
    entry |= {"alpha": 2 * rank, "targets": list(targets), "dropout": dropout, "lr_lora": 5e-3, "lr_garfa": 1e-2}
    return entry | {"n_trainable": n, "budget_deviation": 0} | changes


def run(folder, mixture, tmp_path, name="run", resolved=None, seed=0, progress=None, **settings):
    out, scratch = tmp_path / name, tmp_path / f"{name}-scratch"
    out.mkdir()
    scratch.mkdir(exist_ok=True)
    options = {"seed": seed, "dtype": "float32", "device": "cpu", "out": out, "scratch": scratch}
    if progress:
        options["progress"] = progress
    record = training.train(folder, resolved or arm(folder), mixture, SETTINGS | settings, **options)
    return out, record


def load(folder, mixture, spec, dtype="float32", **settings):
    """The adapted model, and its run."""
    options = Settings.of(SETTINGS | settings), {"lora": 5e-3, "garfa": 1e-2}, ("validate",), 0, dtype, "cpu"
    return training._load(folder, spec, mixture, *options)[:2]


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def reference_losses(model, path):
    """Mean answer loss of each row by Hugging Face's own shifted loss, one unpacked example at a time."""
    tokenizer, losses = make_tokenizer(), {}
    for row in map(json.loads, path.read_text().splitlines()):
        prompt = tokenizer.apply_chat_template(row["messages"][:1], add_generation_prompt=True, tokenize=False)
        whole = prompt + row["messages"][1]["content"] + "<|im_end|>"
        ids = torch.tensor([tokenizer(whole, add_special_tokens=False)["input_ids"]])
        labels = ids.clone()
        labels[0, : len(tokenizer(prompt, add_special_tokens=False)["input_ids"])] = -100
        with torch.no_grad():
            losses[row["id"]] = float(model(input_ids=ids, labels=labels).loss)
    return losses


def read(folder):
    """The bytes of every file of a trained adapter."""
    return {name: (folder / name).read_bytes() for name in FILES}
