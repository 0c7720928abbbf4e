"""The loop of a training run: steps over packed rows, held-out losses, checkpoints, and what stops a run.

    loss of a step = sum of -log p(label | what precedes it in its own example) / number of labels in the step

Rows hold several examples that do not see each other (positions restart, and without a KV cache transformers turns
that into a block-diagonal mask; on CPUs see packed_attention). Only positions that predict a label go through the head.
The optimizer is AdamW (Loshchilov and Hutter 2019) with one learning rate for LoRA and one for the parameters per KV
head, GARFA's log alpha and the control's log temperature (Rao 2026 trains them apart as well); with LoRA+ (Hayou et al.
2024, arXiv:2402.12354) B has `lora_plus_ratio` times the rate of A.

Autograd ends at the first adapted layer: nothing below it needs a gradient, so inputs must never be made to require
one. Of all dropout only LoRA's is active: that of the base model, where its family has some, stays off, so that what
lies below the first adapted layer is the same in every epoch.
"""

import inspect
import logging
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from colocate import checkpoints, full_tuning, lora_compute, packed_attention
from colocate.errors import InputError
from colocate.files import Progress
from colocate.instructions import IGNORED, pack
from colocate.models import without_adapter
from colocate.training_data import Example, Settings, Step

log = logging.getLogger("colocate")
LOG = ["step", "epoch", "split", "loss", "lr_lora", "lr_garfa", "grad_norm", "tokens"]
HELDOUT = ["split", "item", "group", "step", "loss", "tokens"]


class TrainingError(InputError):
    """A run that cannot go on: the message names step, examples, learning rates, and what to change."""


class Diverged(TrainingError):
    """A loss or a gradient that is not finite, or a loss far above the base model's, `loss_base`."""

    def __init__(self, message: str, loss_base: float):
        super().__init__(message)
        self.loss_base = loss_base


@dataclass(frozen=True)
class Run:
    """All that a run needs besides the model. `rates`: {"lora", "garfa"} -> full learning rate."""

    data: dict[str, list[Example]]
    plan: list[Step]
    settings: Settings
    rates: dict[str, float]
    device: str

    def rows(self, examples: list[Example]) -> list[list[Example]]:
        """The examples as packed rows, or as one row each."""
        if not self.settings.packing:
            return [[example] for example in examples]
        packed = pack([(example.ids, example.labels) for example in examples], self.settings.max_length)
        return [[examples[index] for index in dict.fromkeys(row["example"])] for row in packed]


def fit(
    model, run: Run, splits: tuple[str, ...], checkpoint: Path | None, key: str, progress: Progress
) -> tuple[list[dict], list[dict]]:
    """Run the plan. Returns the rows of the log, and of the held-out losses of `splits` at step 0 and the end.

    The first of `splits` is measured after every epoch too. `checkpoint`: where the state is kept every
    `checkpoint_every` steps and, if it is there, taken from; `key` says which run it belongs to.
    """
    import torch

    settings, n_steps = run.settings, len(run.plan)
    done, history, heldout = 0, [], []
    with ExitStack() as stack:
        trained = stack.enter_context(full_tuning.in_float32(model))
        optimizer, rates = _optimizer(trained, run)
        stack.enter_context(_memory_hint(settings))
        stack.enter_context(lora_compute.in_base_dtype(model))
        stack.enter_context(packed_attention.per_example(model))
        set_mode(model, training=False)
        _check_packing(model, run)
        cache = _kept_prefix(model, run, splits)
        if checkpoint is not None and checkpoint.is_file():
            done, history, heldout = checkpoints.resume(checkpoint, key, trained, optimizer)
            full_tuning.write_back(model, trained)
            log.info("going on after step %d of %d, from %s", done, n_steps, checkpoint)
        else:
            with model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext():
                _measure(model, run, cache, splits, 0, history, heldout)
        for number, step in enumerate(run.plan[done:], start=done + 1):
            share = settings.rate(number, n_steps)
            for group in optimizer.param_groups:
                group["lr"] = group["full_lr"] * share
            examples = [run.data["train"][index] for index in step.examples]
            loss = accumulate(model, run, examples, cache)
            if number == 1:
                _check_gradients(trained)
            norm = float(torch.nn.utils.clip_grad_norm_(trained.values(), settings.clip))
            values = {f"lr_{name}": rate * share for name, rate in rates.items()}
            values |= {"grad_norm": norm, "tokens": step.tokens}
            history.append({"step": number, "epoch": step.epoch, "split": "train", "loss": loss} | values)
            _check_progress(model, history, examples, n_steps)
            optimizer.step()
            full_tuning.write_back(model, trained)
            optimizer.zero_grad(set_to_none=True)
            if number == n_steps:
                _measure(model, run, cache, splits, number, history, heldout)
            elif int(step.epoch) > int(run.plan[number - 2].epoch if number > 1 else 0):
                _measure(model, run, cache, splits[:1], number, history, [])
            if checkpoint is not None and (number % settings.checkpoint_every == 0 or number == n_steps):
                checkpoints.keep(checkpoint, key, trained, optimizer, number, history, heldout)
            progress(number / n_steps, f"loss {loss:.2f}")
    return history, heldout


def _optimizer(trained: dict, run: Run):
    """AdamW over the trained tensors, and the full rates of the kinds of them that there are."""
    import torch

    ratio = run.settings.lora_plus_ratio
    kinds = {"lora": [], "lora_B": [], "garfa": []}
    for name, parameter in trained.items():
        per_head = "rope_scale" in name or "logit_scale" in name
        kinds["garfa" if per_head else "lora_B" if "lora_B" in name and ratio != 1 else "lora"].append(parameter)
    lora, garfa, decay = run.rates["lora"], run.rates["garfa"], run.settings.weight_decay
    options = {
        "lora": {"full_lr": lora, "weight_decay": decay},
        "lora_B": {"full_lr": lora * ratio, "weight_decay": decay},
        "garfa": {"full_lr": garfa, "weight_decay": 0.0},
    }
    groups = [{"params": members, "lr": 0.0} | options[kind] for kind, members in kinds.items() if members]
    rates = {name: options[name]["full_lr"] for name in ("lora", "garfa") if kinds[name]}
    return torch.optim.AdamW(groups, fused=True), rates


# ------------------------------------------------------------------------------------------------------------ losses


def accumulate(model, run: Run, examples: list[Example], cache=None) -> float:
    """Add the gradient of the mean loss over all labels of `examples`, row by row; returns that loss."""
    set_mode(model, training=True)
    total, n_labels = 0.0, sum(example.n_labels for example in examples)
    for row in run.rows(examples):
        loss = losses_of(model, row, run.device, cache).sum() / n_labels
        loss.backward()
        total += float(loss.detach())
    return total


def losses_of(model, row: list[Example], device: str, cache=None):
    """-log p of each label of a row of examples, in their order, float32, (labels,). `cache`: a PrefixCache."""
    import torch

    from colocate.profiles.capture import resumed

    lengths = [len(example.ids) for example in row]
    packed = pack([(example.ids, example.labels) for example in row], sum(lengths))[0]
    ids, positions, labels = (
        torch.tensor([packed[key]], device=device) for key in ("input_ids", "position_ids", "labels")
    )
    targets = labels[0, 1:]
    keep = (targets != IGNORED).nonzero()[:, 0]  # the token at `keep` predicts the one after it
    selects = "logits_to_keep" in inspect.signature(without_adapter(model).forward).parameters
    options = {"logits_to_keep": keep} if selects else {}  # then the family's own code caps or scales only these
    start = resumed(model, cache.first, cache.states(row)) if cache else nullcontext()
    with start, packed_attention.examples_of(lengths):
        logits = model(input_ids=ids, position_ids=positions, use_cache=False, **options).logits[0]
    logits = logits if selects else logits[keep]
    return torch.nn.functional.cross_entropy(logits.float(), targets[keep], reduction="none")


def _measure(model, run: Run, cache, splits: tuple[str, ...], number: int, history: list, heldout: list) -> None:
    """Append each held-out example's mean loss to `heldout`, and the mean over examples to `history`."""
    import torch

    set_mode(model, training=False)
    epoch, seen = (run.plan[number - 1].epoch, run.plan[number - 1].tokens) if number else (0.0, 0)
    for split in splits:
        means = {}
        for row in run.rows(run.data[split]):
            with torch.no_grad():
                losses = losses_of(model, row, run.device, cache).double().cpu()
            parts = losses.split([example.n_labels for example in row])
            means |= {id(example): float(part.mean()) for example, part in zip(row, parts, strict=True)}
        for example in run.data[split]:
            names = {"split": split, "item": example.id, "group": example.group}
            heldout.append(names | {"step": number, "loss": means[id(example)], "tokens": example.n_labels})
        mean = sum(means.values()) / len(means)
        history.append({"step": number, "epoch": epoch, "split": split, "loss": mean, "tokens": seen})


def set_mode(model, training: bool) -> None:
    """Switch LoRA's dropout. 4-bit layers stay in training mode: on CPUs the first forward in eval mode makes
    bitsandbytes repack their weights, and then give no gradient."""
    model.eval()
    for name, module in model.named_modules():
        if type(module).__name__ == "Linear4bit":
            module.training = True
        elif ".lora_dropout." in name:
            module.training = training


def _kept_prefix(model, run: Run, splits: tuple[str, ...]):
    """The PrefixCache of a run, filled; None where it is off, or nothing lies below the first adapted layer."""
    from colocate.prefix_cache import PrefixCache

    if not run.settings.prefix_cache_gib:
        return None
    cache = PrefixCache(model, lambda row: losses_of(model, row, run.device), run.settings.prefix_cache_gib)
    if cache.first == 0:
        return None
    uses = Counter(index for step in run.plan for index in step.examples)
    again = [run.data["train"][index] for index in sorted(uses) if uses[index] > 1]
    for row in run.rows(cache.choose([example for split in splits for example in run.data[split]] + again)):
        cache.keep(row)
    return cache


# ------------------------------------------------------------------------------------------------------------ guards


def _check_packing(model, run: Run) -> None:
    """Refuse a family that lets packed examples see each other, on the two shortest training examples."""
    import torch

    pair = sorted(run.data["train"], key=lambda example: len(example.ids))[:2]
    if not run.settings.packing or len(pair) < 2:
        return

    @torch.no_grad()
    def losses(ids):
        row = [replace(example, ids=one) for example, one in zip(pair, ids, strict=True)]
        return losses_of(model, row, run.device)[pair[0].n_labels :]

    embedding = model.get_input_embeddings()
    tolerance = 1e-3 if embedding.weight.dtype == torch.float32 else 0.05  # experts get other batches, and round anew
    packed_attention.check_packing(losses, [one.ids for one in pair], embedding.num_embeddings, tolerance)


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
        raise Diverged(
            f"training diverged in step {last['step']} of {n_steps}: loss {last['loss']:.4g} (limit {limit:.4g}), "
            f"gradient norm {last['grad_norm']:.4g}, {rates}, examples {', '.join(one.id for one in examples)}; lower "
            "the learning rates, or look at these examples",
            base,
        )


@contextmanager
def _memory_hint(settings: Settings) -> Iterator[None]:
    import torch

    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; on CPU the allocator raises the plain class
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        cache = f", training.prefix_cache_gib (now {settings.prefix_cache_gib:g})" if settings.prefix_cache_gib else ""
        raise TrainingError(
            f"out of memory with rows of {settings.max_length} tokens: lower training.max_length (it bounds what is in "
            f"memory at a time; tokens_per_step does not){cache}, or take a smaller dtype (models.*.dtype: bfloat16, "
            "nf4)"
        ) from error
