"""What a training run sees, decided before a model is loaded: settings, encoded examples, the plan of its steps, FLOPs.

The order of the data is a permutation of all examples per epoch, from (seed, epoch). Steps take examples in that order
while their tokens fit `tokens_per_step`, and the run ends before `max_tokens`. So the plan, and with it the place where
an interrupted run goes on, follows from the seed alone, and what a step sees does not depend on how it is packed.
"""

from dataclasses import dataclass, fields
from math import cos, pi
from pathlib import Path

import numpy as np

from colocate.errors import InputError
from colocate.instructions import IGNORED, encode_example, read_rows

SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class Settings:
    """How to train; the config's section `training` and a model's chat_template."""

    max_tokens: int = 24000  # of training data, all epochs together
    epochs: int = 2
    max_length: int = 512  # tokens of a packed row, and of the longest example
    tokens_per_step: int = 1024
    packing: bool = True
    lora: dict | None = None  # rank, alpha, dropout, targets, variant: of subset_loss; an arm brings its own
    lr_lora: float = 5e-4  # of subset_loss, as the next two; an arm brings its own
    lr_garfa: float = 1e-2
    lora_plus_ratio: float = 1.0  # LoRA+: learning rate of B over that of A
    warmup: float = 0.1  # share of the steps in which the learning rates rise linearly from 0
    schedule: str = "cosine"
    weight_decay: float = 0.0  # of LoRA; log alpha has none
    clip: float = 1.0  # largest norm of the whole gradient
    checkpoint_every: int = 20  # steps
    heldout_examples: int = 60  # of validate and of test, each
    prefix_cache_gib: float = 0.0  # memory for what enters the first adapted layer (prefix_cache), 0 = off
    chat_template: str = "auto"
    attention: str = "auto"  # kernel (models.KERNELS)

    def __post_init__(self):
        for name in ("max_tokens", "epochs", "max_length", "tokens_per_step", "checkpoint_every", "heldout_examples"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"training.{name}: found {value!r}, allowed: whole numbers from 1")
        for name in ("lr_lora", "lr_garfa", "clip"):
            if not getattr(self, name) > 0:
                raise InputError(f"training.{name}: found {getattr(self, name)!r}, allowed: numbers above 0")
        if not 0 <= self.warmup <= 1:
            raise InputError(f"training.warmup: found {self.warmup!r}, allowed: 0 to 1 (share of the steps)")
        for name, least in {"weight_decay": 0, "prefix_cache_gib": 0, "lora_plus_ratio": 1}.items():
            if not getattr(self, name) >= least:
                raise InputError(f"training.{name}: found {getattr(self, name)!r}, allowed: {least} and above")
        if self.schedule not in SCHEDULES:
            raise InputError(f"training.schedule: found {self.schedule!r}, allowed: {', '.join(SCHEDULES)}")

    @classmethod
    def of(cls, settings: dict) -> "Settings":
        known = {field.name for field in fields(cls)}
        if unknown := sorted(settings.keys() - known):
            raise InputError(f"training.{unknown[0]}: unknown key, allowed: {', '.join(sorted(known))}")
        return cls(**settings)

    def rate(self, step: int, n_steps: int) -> float:
        """Share of the full learning rate in step 1 .. n_steps: linear warm-up, then the schedule (ends above 0)."""
        warm = round(self.warmup * n_steps)
        if step <= warm:
            return step / warm
        done = (step - 1 - warm) / max(1, n_steps - warm)
        return {"cosine": (1 + cos(pi * done)) / 2, "linear": 1 - done, "constant": 1.0}[self.schedule]


@dataclass(frozen=True)
class Example:
    id: str
    group: str
    ids: list[int]
    labels: list[int]  # IGNORED where there is no loss

    @property
    def n_labels(self) -> int:
        return sum(label != IGNORED for label in self.labels)


def read_examples(
    path: str | Path, tokenizer, settings: Settings, limit: int | None = None
) -> tuple[list[Example], int]:
    """The encoded rows of a mixture file (its first `limit`), and how many of them were left out as too long.

    An example longer than max_length is left out rather than cut: a cut answer would teach the model not to end it.
    """
    examples, too_long = [], 0
    for row in read_rows(path)[:limit]:
        ids, labels = encode_example(tokenizer, row["messages"], settings.chat_template)
        if len(ids) > settings.max_length:
            too_long += 1
            continue
        examples.append(Example(row["id"], row["group"], ids, labels))
    if not examples:
        raise InputError(f"{path}: all {too_long} examples are longer than training.max_length {settings.max_length}")
    return examples, too_long


@dataclass(frozen=True)
class Step:
    examples: tuple[int, ...]
    epoch: float  # data seen after this step, in epochs
    tokens: int  # data seen after this step


def plan_steps(lengths: list[int], settings: Settings, seed: int) -> list[Step]:
    """The optimizer steps over examples of these lengths (in tokens): at least one, never beyond max_tokens."""
    steps, open_step, seen, count = [], [], 0, 0
    order = (
        i for epoch in range(settings.epochs) for i in np.random.default_rng([seed, epoch]).permutation(len(lengths))
    )
    for index in map(int, order):
        if seen + lengths[index] > settings.max_tokens:
            break
        if open_step and sum(lengths[i] for i in open_step) + lengths[index] > settings.tokens_per_step:
            steps.append(Step(tuple(open_step), count / len(lengths), seen))
            open_step = []
        open_step.append(index)
        seen, count = seen + lengths[index], count + 1
    if not open_step:
        raise InputError(f"training.max_tokens: found {settings.max_tokens}, less than one example ({lengths[index]})")
    return [*steps, Step(tuple(open_step), count / len(lengths), seen)]


def training_flops(geometry: dict, spec, lengths: list[int], n_labels: int) -> int:
    """Floating-point operations of a training run over examples of these lengths with `n_labels` labels in all.

    A multiplication and an addition count 2. With N_l the weights of layer l's linear maps, f the first adapted layer,
    V vocabulary, D hidden size, and T (T + 1) / 2 causal query-key pairs in an example of T tokens:

        per token   2 sum_l N_l  +  2 sum_{l >= f} N_l  +  6 n_LoRA      forward, backward to f, LoRA and its weights
        per pair    4 H d L      +  8 H d (L - f)                        scores and weighted sum, forward and backward
        per label   4 V D                                                head, forward and backward

    Frozen weights get no gradient, and nothing goes below layer f. Norms, softmax and rotation are left out, and so are
    the held-out losses. Dense models. A plain run's work: with prefix_cache_gib, later epochs do less. `spec` None is
    full fine-tuning: f = 0, and every weight, the head's too, has a gradient (2 more an operation; no LoRA).
    """
    from colocate.budget import count_parameters

    shapes, n_layers = geometry["linear_shapes"], geometry["n_layers"]
    first = min(spec.layers) if spec else 0
    weights = [sum(out * into for out, into in shapes[str(layer)].values()) for layer in range(n_layers)]
    per_token = 6 * count_parameters(shapes, 0, spec) if spec else 2 * sum(weights)
    tokens, pairs = sum(lengths), sum(length * (length + 1) // 2 for length in lengths)
    per_head_pair = geometry["n_heads"] * geometry["head_dim"]
    return (
        tokens * (2 * sum(weights) + 2 * sum(weights[first:]) + per_token)
        + pairs * per_head_pair * (4 * n_layers + 8 * (n_layers - first))
        + n_labels * (4 if spec else 6) * geometry["vocab"] * geometry["hidden"]
    )
