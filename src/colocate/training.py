"""One training run: an adapter on chosen layers, fitted to the answers of an instruction mixture.

    loss of a step = sum of -log p(label | what precedes it in its own example) / number of labels in the step

Rows hold several examples that do not see each other (positions restart, and without a KV cache transformers turns
that into a block-diagonal mask). Only positions that predict a label go through the head. The optimizer is AdamW
(Loshchilov and Hutter 2019) with two learning rates, one for LoRA and one for GARFA's log alpha (Rao 2026 trains them
apart as well). Autograd ends at the first adapted layer: nothing below it needs a gradient, so inputs must never be
made to require one.

An interrupted run goes on from its last checkpoint and is, on CPU, bit-equal to one that was never interrupted.
"""

import inspect
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from colocate import adapters, checkpoints, devices, files, models
from colocate.budget import AdapterSpec
from colocate.errors import InputError
from colocate.files import Progress, silent
from colocate.geometry import read_geometry
from colocate.instructions import IGNORED, pack
from colocate.training_data import Example, Settings, Step, plan_steps, read_examples, training_flops


class TrainingError(InputError):
    """A run that cannot go on: the message names step, examples, learning rates, and what to change."""


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
    adapter_config.json, adapter_model.safetensors, alphas.csv (layer, kv_head, alpha), training_log.csv (step, epoch,
    split, loss, lr_lora, lr_garfa, grad_norm, tokens; a held-out row carries the mean over its split's examples) and
    heldout.parquet (split, item, group, step, loss, tokens: mean loss, in nat, of the `tokens` labels of each example's
    answer, at step 0, the base model, and at the end).
    `scratch` keeps the latest checkpoint, from which a second call goes on; the caller removes it.
    Returns {tokens, steps, flops, training_seconds, peak_memory_mib, left_out (examples too long, by split)}.
    """
    import pandas as pd

    started = time.perf_counter()
    settings, out = Settings.of(settings), Path(out)
    spec = AdapterSpec(
        lora_layers=tuple(resolved["lora_layers"]),
        garfa_layers=tuple(resolved["garfa_layers"]),
        rank=resolved["rank"],
        alpha=resolved["alpha"],
        targets=tuple(resolved["targets"]),
        dropout=resolved.get("dropout", 0.0),
    )
    model, data, left_out = _load(model_folder, spec, mixture, settings, seed, dtype, device)
    n_trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if n_trainable != resolved["n_trainable"]:
        raise InputError(
            f"arm {resolved['arm']}: n_trainable is {resolved['n_trainable']}, this model has {n_trainable}"
        )
    rates = {"lora": resolved["lr_lora"], "garfa": resolved["lr_garfa"]}
    run = Run(
        data, plan_steps([len(example.ids) for example in data["train"]], settings, seed), settings, rates, device
    )
    key = json.dumps([resolved, asdict(settings), seed, dtype, device], sort_keys=True)
    history, heldout = fit(model, run, ("validate", "test"), Path(scratch) / checkpoints.NAME, key, progress)

    manifest = Path(model_folder) / "manifest.json"
    adapters.save(model, out, files.read_json(manifest) if manifest.is_file() else None)
    files.write_csv(out / "alphas.csv", adapters.read_alphas(out))
    files.write_csv(out / "training_log.csv", pd.DataFrame(history, columns=LOG))
    files.write_parquet(out / "heldout.parquet", pd.DataFrame(heldout, columns=HELDOUT))
    seen = [data["train"][index] for step in run.plan for index in step.examples]
    lengths, labels = [len(example.ids) for example in seen], sum(example.n_labels for example in seen)
    return {
        "tokens": run.plan[-1].tokens,
        "steps": len(run.plan),
        "flops": training_flops(read_geometry(model_folder), spec, lengths, labels),
        "training_seconds": time.perf_counter() - started,
        "peak_memory_mib": devices.peak_memory_mib(),
        "left_out": left_out,
    }


def layer_gain(
    model_folder: str | Path,
    layer: int,
    mixture: dict[str, str | Path],
    settings: dict,
    seed: int,
    dtype: str,
    device: str,
    progress: Progress = silent,
) -> dict:
    """What LoRA on one layer alone gains: held-out loss on validate of the base model minus that after training.

    Returns {"layer", "seed", "loss_base", "loss", "gain", "n"}: means over n examples, in nat. `settings` as for
    `train`, with the adapter in `lora` {rank, alpha, dropout, targets}.
    """
    settings = Settings.of(settings)
    if not settings.lora:
        raise InputError("training.lora: missing; layer_gain needs rank, alpha and targets")
    spec = AdapterSpec(lora_layers=(layer,), **settings.lora)
    model, data, _ = _load(model_folder, spec, mixture, settings, seed, dtype, device)
    rates = {"lora": settings.lr_lora, "garfa": settings.lr_garfa}
    run = Run(
        data, plan_steps([len(example.ids) for example in data["train"]], settings, seed), settings, rates, device
    )
    _, heldout = fit(model, run, ("validate",), None, "", progress)
    base = [row["loss"] for row in heldout if row["step"] == 0]
    after = [row["loss"] for row in heldout if row["step"] == len(run.plan)]
    loss_base, loss = sum(base) / len(base), sum(after) / len(after)
    return {
        "layer": layer,
        "seed": seed,
        "loss_base": loss_base,
        "loss": loss,
        "gain": loss_base - loss,
        "n": len(base),
    }


# ----------------------------------------------------------------------------------------------------------- the run

LOG = ["step", "epoch", "split", "loss", "lr_lora", "lr_garfa", "grad_norm", "tokens"]
HELDOUT = ["split", "item", "group", "step", "loss", "tokens"]


@dataclass(frozen=True)
class Run:
    """All that a run needs besides the model. `rates`: {"lora", "garfa"} -> full learning rate."""

    data: dict[str, list[Example]]
    plan: list[Step]
    settings: Settings
    rates: dict[str, float]
    device: str

    def rows(self, examples: list[Example]) -> list[dict]:
        """Packed rows, or one row per example; "example" counts in `examples`."""
        encoded = [(example.ids, example.labels) for example in examples]
        if self.settings.packing:
            return pack(encoded, self.settings.max_length)
        rows = [pack([one], self.settings.max_length)[0] for one in encoded]
        return [row | {"example": [i] * len(row["example"])} for i, row in enumerate(rows)]


def _load(model_folder, spec: AdapterSpec, mixture: dict, settings: Settings, seed: int, dtype: str, device: str):
    """The adapted model, the examples of each split, and how many of each split were too long."""
    import torch

    tokenizer = models.load_tokenizer(model_folder)
    limits = {"train": None, "validate": settings.heldout_examples, "test": settings.heldout_examples}
    read = {split: read_examples(mixture[split], tokenizer, settings, limit) for split, limit in limits.items()}
    model = models.load_model(model_folder, dtype, device)
    torch.manual_seed(seed)  # LoRA's A, then dropout
    model = adapters.adapt(model, spec)
    return model, {split: pair[0] for split, pair in read.items()}, {split: pair[1] for split, pair in read.items()}


def fit(model, run: Run, splits: tuple[str, ...], checkpoint: Path | None, key: str, progress: Progress):
    """Run the plan. Returns the rows of the log, and of the held-out losses of `splits` at step 0 and the end.

    `checkpoint`: where the state is kept every `checkpoint_every` steps and, if it is there, taken from; `key` says
    which run it belongs to.
    """
    import torch

    settings, n_steps = run.settings, len(run.plan)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    groups = {
        "lora": [parameter for name, parameter in trained.items() if "rope_scale" not in name],
        "garfa": [parameter for name, parameter in trained.items() if "rope_scale" in name],
    }
    groups = {name: parameters for name, parameters in groups.items() if parameters}
    decay = {"lora": settings.weight_decay, "garfa": 0.0}
    optimizer = torch.optim.AdamW([{"params": groups[name], "lr": 0.0, "weight_decay": decay[name]} for name in groups])
    done, history, heldout = 0, [], []
    if checkpoint is not None and checkpoint.is_file():
        done, history, heldout = checkpoints.resume(checkpoint, key, trained, optimizer)
    else:
        with model.disable_adapter():
            _measure(model, run, splits, 0, history, heldout)
    for number, step in enumerate(run.plan[done:], start=done + 1):
        rates = {name: run.rates[name] * settings.rate(number, n_steps) for name in groups}
        for rate, group in zip(rates.values(), optimizer.param_groups, strict=True):
            group["lr"] = rate
        examples = [run.data["train"][index] for index in step.examples]
        loss = _accumulate(model, run, examples)
        if number == 1:
            _check_gradients(trained)
        norm = float(torch.nn.utils.clip_grad_norm_(trained.values(), settings.clip))
        values = {f"lr_{name}": rate for name, rate in rates.items()} | {"grad_norm": norm, "tokens": step.tokens}
        history.append({"step": number, "epoch": step.epoch, "split": "train", "loss": loss} | values)
        _check_progress(model, history, examples, n_steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if number == n_steps:
            _measure(model, run, splits, number, history, heldout)
        elif int(step.epoch) > int(run.plan[number - 2].epoch if number > 1 else 0):
            _measure(model, run, ("validate",), number, history, [])
        if checkpoint is not None and (number % settings.checkpoint_every == 0 or number == n_steps):
            checkpoints.keep(checkpoint, key, trained, optimizer, number, history, heldout)
        progress(number / n_steps, f"loss {loss:.2f}")
    return history, heldout


def _accumulate(model, run: Run, examples: list[Example]) -> float:
    """Add the gradient of the mean loss over all labels of `examples`, row by row; returns that loss."""
    model.train()
    total, n_labels = 0.0, sum(example.n_labels for example in examples)
    with _memory_hint(run.settings):
        for row in run.rows(examples):
            loss = _losses(model, row, run.device)[0].sum() / n_labels
            loss.backward()
            total += float(loss.detach())
    return total


def _losses(model, row: dict[str, list[int]], device: str):
    """-log p of each label of a packed row, float32, and the example that each belongs to: two tensors (labels,)."""
    import torch

    ids, positions, labels, owners = (
        torch.tensor([row[key]], device=device) for key in ("input_ids", "position_ids", "labels", "example")
    )
    targets = labels[0, 1:]
    keep = (targets != IGNORED).nonzero()[:, 0]  # the token at `keep` predicts the one after it
    selects = "logits_to_keep" in inspect.signature(model.get_base_model().forward).parameters
    options = {"logits_to_keep": keep} if selects else {}  # then the family's own code caps or scales only these
    logits = model(input_ids=ids, position_ids=positions, use_cache=False, **options).logits[0]
    logits = logits if selects else logits[keep]
    losses = torch.nn.functional.cross_entropy(logits.float(), targets[keep], reduction="none")
    return losses, owners[0, 1:][keep]


def _measure(model, run: Run, splits: tuple[str, ...], number: int, history: list, heldout: list) -> None:
    """Append each held-out example's mean loss to `heldout`, and the mean over examples to `history`."""
    import torch

    model.eval()
    if getattr(model, "is_loaded_in_4bit", False):
        # On CPUs the first forward in eval mode makes bitsandbytes repack 4-bit weights, and then give no gradient.
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.eval()
    epoch, seen = (run.plan[number - 1].epoch, run.plan[number - 1].tokens) if number else (0.0, 0)
    for split in splits:
        examples = run.data[split]
        sums = torch.zeros(len(examples), dtype=torch.float64)
        with torch.no_grad(), _memory_hint(run.settings):
            for row in run.rows(examples):
                losses, owners = _losses(model, row, run.device)
                sums.index_add_(0, owners.cpu(), losses.double().cpu())
        means = [total / example.n_labels for total, example in zip(sums.tolist(), examples, strict=True)]
        for example, mean in zip(examples, means, strict=True):
            names = {"split": split, "item": example.id, "group": example.group}
            heldout.append(names | {"step": number, "loss": mean, "tokens": example.n_labels})
        row = {"step": number, "epoch": epoch, "split": split, "loss": sum(means) / len(means), "tokens": seen}
        history.append(row)


# ------------------------------------------------------------------------------------------------------------ guards


def _check_gradients(trained: dict) -> None:
    """After the first backward: every tensor has a gradient, and one that is not zero where the start allows it."""
    for name, parameter in trained.items():
        # B starts at 0, so that A's gradient is 0 in the first step.
        if parameter.grad is None or ("lora_A" not in name and not parameter.grad.any()):
            found = "no gradient" if parameter.grad is None else "a gradient of zeros"
            raise TrainingError(f"after the first backward pass {name} has {found}: it would never be trained")


def _check_progress(model, history: list[dict], examples: list[Example], n_steps: int) -> None:
    """Stop where the latest loss is not finite, or half-way from the base model's to that of a uniform guess."""
    last, base = history[-1], history[0]["loss"]
    limit = max((base + math.log(model.get_input_embeddings().num_embeddings)) / 2, 1.5 * base)
    if not (last["loss"] <= limit and math.isfinite(last["grad_norm"])):  # a loss that is not a number fails as well
        rates = ", ".join(f"{name} {last[name]:.3g}" for name in ("lr_lora", "lr_garfa") if name in last)
        raise TrainingError(
            f"training diverged in step {last['step']} of {n_steps}: loss {last['loss']:.4g} (limit {limit:.4g}), "
            f"gradient norm {last['grad_norm']:.4g}, {rates}, examples {', '.join(one.id for one in examples)}; lower "
            "the learning rates, or look at these examples"
        )


@contextmanager
def _memory_hint(settings: Settings) -> Iterator[None]:
    import torch

    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; on CPU the allocator raises the plain class
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise TrainingError(
            f"out of memory with rows of {settings.max_length} tokens: lower training.max_length (it bounds what is in "
            "memory at a time; tokens_per_step does not), or take a smaller dtype (models.*.dtype: bfloat16, nf4)"
        ) from error
