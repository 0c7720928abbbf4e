"""What the tests of evaluation share: tiny adapted and sliding models, requests, plain reference computations."""

import json
import os
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance

from colocate import adapters, evaluation, models
from colocate.budget import AdapterSpec

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "data" / "benchmarks"
SETTINGS = {"seed": 1234, "batch_size": 8, "sandbox": "auto"}
SHOTS = "Question: What is 2 + 2?\nAnswer: 4\n\nQuestion: What is 1 + 5?\nAnswer: 6\n\n"
FAMILY = [SHOTS + f"Question: {text}?\nAnswer:" for text in ("How far is it", "Who", "When was it", "Is it")]
REQUESTS = [
    (context, continuation)
    for context in ("Question: Why?\nAnswer:", *FAMILY)
    for continuation in (" no", " because it is so", "\u00e9", " yes, very\n")
] + [("x", " one token more"), ("", "nothing before")]


def real_datasets() -> Path:
    """Folder of real data, laid out as hub repositories; skips the test where there is none."""
    named = os.environ.get("COLOCATE_DATASETS")
    folder = Path(named) if named else ROOT.parent / "shared" / "datasets"
    if not (folder / "cais/mmlu").is_dir():
        pytest.skip(f"no real data in {folder}; set COLOCATE_DATASETS to a folder laid out as hub repositories")
    return folder


def adapted_model(folder, path, lora: tuple = (1, 2), garfa: tuple = (0, 2), strength: float = 0.2):
    """LoRA and per-head RoPE bases, all away from their identity by about `strength`, saved and loaded."""
    spec = AdapterSpec(lora_layers=lora, garfa_layers=garfa, rank=4, alpha=8, targets=("q_proj", "v_proj"))
    torch.manual_seed(1)
    adapted = adapters.adapt(models.load_model(folder, "float32", "cpu"), spec)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * strength * (2.5 if "log_alpha" in name else 1))
    adapters.save(adapted, path)
    return adapters.load(models.load_model(folder, "float32", "cpu"), path).eval()


def live(model, tokenizer, batch_size: int = 8, **options):
    from colocate.evaluation.backend import LiveModel

    return LiveModel(model, tokenizer, batch_size, **options)


def instances(kind: str, arguments: list[tuple]) -> list:
    return [Instance(kind, {}, pair, 0) for pair in arguments]


@torch.no_grad()
def reference(model, tokenizer, context: str, continuation: str) -> tuple[float, bool]:
    """One request, one forward pass over all its tokens, float64 softmax."""
    begin = tokenizer(context).input_ids or [tokenizer.eos_token_id]
    ids = begin + tokenizer(continuation).input_ids
    logits = model(torch.tensor([ids])).logits[0].double()
    logprobs = logits.log_softmax(-1)[len(begin) - 1 : -1]
    targets = torch.tensor(ids[len(begin) :])
    return logprobs.gather(1, targets[:, None]).sum().item(), bool((logprobs.argmax(1) == targets).all())


@torch.no_grad()
def written(model, ids: list[int], room: int) -> list[int]:
    """What greedy decoding writes after `ids`, one forward pass over everything a token."""
    row = list(ids)
    for _ in range(room):
        row.append(model(input_ids=torch.tensor([row])).logits[0, -1].argmax().item())
    return row[len(ids) :]


def run(folder, task: dict, adapter=None, **changes):
    """A whole evaluation on the CPU, in float32 unless `dtype` says otherwise."""
    places = {"benchmarks_dir": changes.pop("benchmarks_dir", BENCHMARKS)}
    for name in ("datasets_dir", "record"):
        if name in changes:
            places[name] = changes.pop(name)
    where = {"dtype": changes.pop("dtype", "float32"), "device": "cpu"}
    return evaluation.evaluate(folder, adapter, task["task"], task, SETTINGS | changes, **where, **places)


def mirror(root: Path, source: str, config: str, split: str, rows: list[dict]) -> None:
    """A data-set repository with one configuration, laid out as on the hub."""
    folder = root / source
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = "".join(f"  - split: {path.stem}\n    path: {path.name}\n" for path in sorted(folder.glob("*.jsonl")))
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: {config}\n  data_files:\n{parts}---\n")
