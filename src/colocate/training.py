"""Training runs: an arm's adapter, the loss that a pair of learning rates reaches, the loss of LoRA on some layers.

Each fits an adapter on chosen layers to the answers of an instruction mixture (the loop: fitting). Held-out losses are
means over a split's examples, in nat; what is chosen by them is chosen on validate.

An interrupted run goes on from its last checkpoint and is, on CPU, bit-equal to one that was never interrupted.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from colocate import adapters, checkpoints, devices, files, full_tuning, models
from colocate.budget import AdapterSpec
from colocate.errors import InputError
from colocate.files import Progress, silent
from colocate.fitting import HELDOUT, LOG, Diverged, Run, fit
from colocate.geometry import read_geometry
from colocate.training_data import Settings, plan_steps, read_examples, training_flops


def train(
    model_folder: str | Path,
    resolved: dict,
    mixture: dict[str, str | Path],
    settings: dict,
    *,
    seed: int,
    dtype: str,
    device: str,
    out: str | Path,
    scratch: str | Path,
    progress: Progress = silent,
) -> dict:
    """Train the arm `resolved` (a file arms/{arm}/seed{seed}.json) and write its files into the empty folder `out`.

    `mixture`: {"train", "validate", "test"} -> JSONL file; `settings`: fields of training_data.Settings. Writes
    adapter_config.json, adapter_model.safetensors, alphas.csv (layer, kv_head, alpha), temperatures.csv (layer,
    kv_head, temperature), training_log.csv (step, epoch, split, loss, lr_lora, lr_garfa, grad_norm, tokens; a held-out
    row carries the mean over its split's examples) and heldout.parquet (split, item, group, step, loss, tokens: mean
    loss, in nat, of the `tokens` labels of each example's answer, at step 0, the base model, and at the end).
    `scratch` keeps the latest checkpoint, from which a second call goes on; the caller removes it.
    Returns {tokens, steps, flops, training_seconds, peak_memory_mib, attention (the kernel), left_out (examples too
    long, by split)}.
    """
    import pandas as pd

    started, out = time.perf_counter(), Path(out)
    model, run, spec, left_out = _arm_run(
        model_folder, resolved, mixture, settings, ("validate", "test"), seed, dtype, device
    )
    key = _key(resolved, run, seed, dtype)
    history, heldout = fit(model, run, ("validate", "test"), Path(scratch) / checkpoints.NAME, key, progress)

    manifest = Path(model_folder) / "manifest.json"
    save = adapters.save if spec else full_tuning.save
    save(model, out, files.read_json(manifest) if manifest.is_file() else None)
    files.write_csv(out / "alphas.csv", adapters.read_alphas(out))
    files.write_csv(out / "temperatures.csv", adapters.read_temperatures(out))
    files.write_csv(out / "training_log.csv", pd.DataFrame(history, columns=LOG))
    files.write_parquet(out / "heldout.parquet", pd.DataFrame(heldout, columns=HELDOUT))
    seen = [run.data["train"][index] for step in run.plan for index in step.examples]
    lengths, labels = [len(example.ids) for example in seen], sum(example.n_labels for example in seen)
    return {
        "tokens": run.plan[-1].tokens,
        "steps": len(run.plan),
        "flops": training_flops(read_geometry(model_folder), spec, lengths, labels),
        "training_seconds": time.perf_counter() - started,
        "peak_memory_mib": devices.peak_memory_mib(),
        "attention": models.without_adapter(model).config._attn_implementation,
        "left_out": left_out,
    }


def tune(
    model_folder: str | Path,
    resolved: dict,
    mixture: dict[str, str | Path],
    settings: dict,
    *,
    seed: int,
    dtype: str,
    device: str,
    scratch: str | Path,
    progress: Progress = silent,
) -> dict:
    """Train the arm `resolved` with its learning rates and measure it on validate; the split test is never read.

    Returns {"lr_lora", "lr_garfa", "loss_base", "loss", "n", "tokens"}: means over n examples. Rates with which it
    diverges are a result too: then `loss` is None, and `why` says in which step. Arguments as for `train`.
    """
    model, run, _, _ = _arm_run(model_folder, resolved, mixture, settings, ("validate",), seed, dtype, device)
    rates = {name: resolved[name] for name in ("lr_lora", "lr_garfa")}
    key = _key(resolved, run, seed, dtype)
    try:
        found = _validate(model, run, Path(scratch) / checkpoints.NAME, key, progress)
    except Diverged as error:
        if not math.isfinite(error.loss_base):  # no learning rate's fault
            raise
        found = {"loss_base": error.loss_base, "loss": None, "n": len(run.data["validate"]), "why": str(error)}
    return rates | found | {"tokens": run.plan[-1].tokens}


def subset_loss(
    model_folder: str | Path,
    layers: Sequence[int],
    mixture: dict[str, str | Path],
    settings: dict,
    seed: int,
    dtype: str,
    device: str,
    progress: Progress = silent,
) -> dict:
    """What LoRA on exactly these layers reaches on validate: layer gain is the difference of two of these.

    Returns {"layers", "seed", "loss_base", "loss", "n"}: means over n examples, `loss_base` that of the base model.
    `settings` as for `train`, with the adapter in `lora` {rank, alpha, dropout, targets, variant}.
    """
    settings = Settings.of(settings)
    if not settings.lora:
        raise InputError("training.lora: missing; subset_loss needs rank, alpha and targets")
    spec = AdapterSpec(lora_layers=tuple(layers), **settings.lora)
    rates = {"lora": settings.lr_lora, "garfa": settings.lr_garfa}
    model, run, _ = _load(model_folder, spec, mixture, settings, rates, ("validate",), seed, dtype, device)
    return {"layers": list(spec.lora_layers), "seed": seed} | _validate(model, run, None, "", progress)


def _arm_run(
    model_folder,
    resolved: dict,
    mixture: dict,
    settings: dict,
    splits: tuple[str, ...],
    seed: int,
    dtype: str,
    device: str,
):
    """The model of a resolved arm, its run, its spec (None: full fine-tuning), and how many examples were too long."""
    settings = Settings.of(settings)
    settings = replace(settings, lora_plus_ratio=resolved.get("lora_plus_ratio", settings.lora_plus_ratio))
    spec = None if resolved.get("full") else _spec_of(resolved)
    rates = {"lora": resolved["lr_lora"], "garfa": resolved["lr_garfa"]}
    model, run, left_out = _load(model_folder, spec, mixture, settings, rates, splits, seed, dtype, device)
    n_trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if n_trainable != resolved["n_trainable"]:
        raise InputError(
            f"arm {resolved['arm']}: n_trainable is {resolved['n_trainable']}, this model has {n_trainable}"
        )
    return model, run, spec, left_out


def _spec_of(resolved: dict) -> AdapterSpec:
    return AdapterSpec(
        lora_layers=tuple(resolved["lora_layers"]),
        garfa_layers=tuple(resolved["garfa_layers"]),
        rank=resolved["rank"],
        alpha=resolved["alpha"],
        targets=tuple(resolved["targets"]),
        dropout=resolved.get("dropout", 0.0),
        temperature_layers=tuple(resolved.get("temperature_layers", ())),
        variant=resolved.get("variant", "lora"),
    )


def _load(
    model_folder,
    spec: AdapterSpec | None,
    mixture: dict,
    settings: Settings,
    rates: dict,
    splits: tuple[str, ...],
    seed: int,
    dtype: str,
    device: str,
):
    """The adapted model, the run over train with these held-out splits, and how many of each split were too long."""
    import torch

    tokenizer = models.load_tokenizer(model_folder)
    limits = {"train": None} | dict.fromkeys(splits, settings.heldout_examples)
    read = {split: read_examples(mixture[split], tokenizer, settings, limit) for split, limit in limits.items()}
    data = {split: examples for split, (examples, _) in read.items()}
    plan = plan_steps([len(example.ids) for example in data["train"]], settings, seed)
    model = models.load_model(model_folder, dtype, device, attention=settings.attention)
    torch.manual_seed(seed)  # LoRA's A, then dropout
    run = Run(data, plan, settings, rates, device)
    model = adapters.adapt(model, spec) if spec else full_tuning.unfreeze(model)
    return model, run, {split: too_long for split, (_, too_long) in read.items()}


def _key(resolved: dict, run: Run, seed: int, dtype: str) -> str:
    """What a checkpoint belongs to."""
    return json.dumps([resolved, asdict(run.settings), seed, dtype, run.device], sort_keys=True)


def _validate(model, run: Run, checkpoint: Path | None, key: str, progress: Progress) -> dict:
    """Fit; the mean held-out loss on validate before and after."""
    _, heldout = fit(model, run, ("validate",), checkpoint, key, progress)
    means = {}
    for name, step in {"loss_base": 0, "loss": len(run.plan)}.items():
        losses = [row["loss"] for row in heldout if row["step"] == step]
        means |= {name: sum(losses) / len(losses), "n": len(losses)}
    return means
