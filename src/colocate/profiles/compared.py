"""Two models of one architecture, base and tuned: run either, swap layers between them, compare their weights.

of_adapter   tuned is a PEFT model, base the same model with its adapter off, bit for bit: one copy of the weights
of_release   two models, such as a base model and its released fine-tune: both in memory
of_arm       one or the other: of a trained arm

Weights    W (out, in) of each linear module of a decoder layer, and its change W' - W. For LoRA that is
           scale B A (rsLoRA: another scale); for DoRA diag(m / ||W + scale B A||_rows) (W + scale B A) - W.
           One module's change at a time, in float64
Source     DoRA: Liu et al. 2024, arXiv:2402.09353, equation 5; rsLoRA: Kalajdzievski 2023, arXiv:2312.03732.
"""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.integrations import dequantize_module_weight
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from colocate.errors import InputError
from colocate.files import Progress, silent
from colocate.models import attention, decoder_layers
from colocate.profiles.capture import FORMS, pooled_states

GEOMETRY = ("model_type", "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim")
TOKENIZATION = ("normalizer", "pre_tokenizer", "post_processor", "model")  # parts of a tokenizer.json


@dataclass(frozen=True)
class Compared:
    """Build it with of_adapter or of_release. `other`: the base model, or None where `model` has an adapter."""

    model: nn.Module
    other: nn.Module | None = None

    @classmethod
    def of_adapter(cls, peft_model) -> "Compared":
        """A PEFT model against itself with the adapter off."""
        if not hasattr(peft_model, "disable_adapter"):
            raise InputError(f"{type(peft_model).__name__} has no adapter; expected a PEFT model")
        return cls(peft_model)

    @classmethod
    def of_release(cls, base, tuned, base_tokenizer=None, tuned_tokenizer=None) -> "Compared":
        """Two models. InputError, naming both, if geometry or shapes differ, or if tokenizers (where given) do."""
        names = [getattr(model, "name_or_path", "") or type(model).__name__ for model in (base, tuned)]
        _check_alike(base, tuned, names)
        if base_tokenizer is not None:
            _check_tokenizers(base_tokenizer, tuned_tokenizer, names)
        return cls(tuned, base)

    @classmethod
    def of_arm(cls, tuned, load_base: Callable) -> "Compared":
        """What adapters.load gives: a PEFT model against itself, a full fine-tune against what load_base() returns."""
        return cls.of_adapter(tuned) if hasattr(tuned, "disable_adapter") else cls.of_release(load_base(), tuned)

    @property
    def n_layers(self) -> int:
        return len(decoder_layers(self.model))

    @contextmanager
    def base(self) -> Iterator[nn.Module]:
        """The base model, for the length of the block."""
        if self.other is not None:
            yield self.other
            return
        with self.model.disable_adapter():
            yield self.model

    @contextmanager
    def tuned(self) -> Iterator[nn.Module]:
        """The tuned model, for the length of the block."""
        yield self.model

    def both(self, measure: Callable, progress: Progress = silent) -> tuple:
        """measure(model, progress) of the base model and of the tuned one, in this order."""
        with self.base() as model:
            before = measure(model, lambda done, note="": progress(done / 2, note))
        with self.tuned() as model:
            return before, measure(model, lambda done, note="": progress((1 + done) / 2, note))

    def states(
        self, tokenizer, rows: Sequence, batch_tokens: int, progress: Progress = silent
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pooled layer states of the right texts of n rows, base and tuned: (n, 4 POOLS, L, D) each."""
        texts = [(row.prompt, row.correct) for row in rows]

        def measure(model, progress):
            states = pooled_states(model, tokenizer, texts, batch_tokens, progress)
            return states[:, FORMS.index("state")].copy()  # a view would keep the increments in memory

        return self.both(measure, progress)

    @contextmanager
    def swapped(self, chosen: Collection[int]) -> Iterator[nn.Module]:
        """The tuned model with the base's decoder layers in the places `chosen`, for the length of the block.

        Embedding, final norm and head stay the tuned model's: where they were tuned too (a release), swapping all
        layers is not yet the base model.
        """
        layers = decoder_layers(self.model)
        with ExitStack() as undo:
            for number in chosen:
                if self.other is not None:
                    undo.callback(layers.__setitem__, number, layers[number])
                    layers[number] = decoder_layers(self.other)[number]
                    continue
                for module in layers[number].modules():
                    if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
                        undo.callback(module.enable_adapters, True)
                        module.enable_adapters(False)
            yield self.model

    def linear_modules(self, layer: int) -> Iterator["LinearChange"]:
        """The linear modules of one decoder layer, in order."""
        parent = decoder_layers(self.model)[layer]
        inside = {id(module) for module in attention(parent).modules()}
        others = dict(_linear(decoder_layers(self.other)[layer])) if self.other is not None else {}
        for name, module in _linear(parent):
            yield LinearChange(name, id(module) in inside, module, others.get(name))


@dataclass(frozen=True)
class LinearChange:
    """One linear module in both models. `name`: its path in the decoder layer."""

    name: str
    in_attention: bool
    module: nn.Module
    other: nn.Module | None

    def weight(self) -> Tensor:
        """W (out, in) of the base model, float64."""
        return _weight(self.module if self.other is None else self.other)

    def change(self) -> Tensor | None:
        """W' - W (out, in), float64; None where an adapter leaves the module alone."""
        if self.other is not None:
            return _weight(self.module) - _weight(self.other)
        return _adapter_change(self.module)


def _linear(parent: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The linear modules under `parent`, in order; one with LoRA stands for itself, not for its parts."""
    for name, module in parent.named_children():
        if isinstance(module, LoraLayer | nn.Linear):
            yield prefix + name, module
        else:
            yield from _linear(module, f"{prefix}{name}.")


def _weight(module: nn.Module) -> Tensor:
    """The base weight of a linear module; 4-bit weights are unpacked."""
    base = module.get_base_layer() if isinstance(module, LoraLayer) else module
    weight = base.weight if base.weight.is_floating_point() else dequantize_module_weight(base)
    return weight.detach().double()


def _adapter_change(module: nn.Module) -> Tensor | None:
    if not isinstance(module, LoraLayer):
        return None
    names = [name for name in module.active_adapters if name in module.lora_A]
    if not names:
        return None
    if len(names) > 1:
        raise InputError(f"a module has {len(names)} active adapters {names}; expected one")
    (name,) = names
    a, b = module.lora_A[name].weight.detach().double(), module.lora_B[name].weight.detach().double()
    change = module.scaling[name] * b @ a
    if name not in module.lora_magnitude_vector:  # only DoRA has one
        return change
    weight = _weight(module)
    moved = weight + change
    magnitude = module.lora_magnitude_vector[name].weight.detach().double()
    return (magnitude / torch.linalg.vector_norm(moved, dim=1)).unsqueeze(1) * moved - weight


def _check_alike(base, tuned, names: list[str]) -> None:
    configs = [model.get_decoder().config for model in (base, tuned)]
    wrong = [key for key in GEOMETRY if getattr(configs[0], key, None) != getattr(configs[1], key, None)]
    each = [f"{key}: {getattr(configs[0], key, None)} and {getattr(configs[1], key, None)}" for key in wrong]
    if not wrong:
        shapes = [{n: tuple(p.shape) for n, p in decoder_layers(model).named_parameters()} for model in (base, tuned)]
        odd = sorted(name for name in shapes[0].keys() | shapes[1].keys() if shapes[0].get(name) != shapes[1].get(name))
        each = [f"layers.{name}: {shapes[0].get(name)} and {shapes[1].get(name)}" for name in odd[:3]]
    if each:
        raise InputError(f"{names[0]} and {names[1]} cannot be compared layer by layer: {'; '.join(each)}")


def _check_tokenizers(base, tuned, names: list[str]) -> None:
    """Equal where the base's tokenizer is defined; a fine-tune may add special tokens of its own."""
    parts = [json.loads(tokenizer.backend_tokenizer.to_str()) for tokenizer in (base, tuned)]
    wrong = [part for part in TOKENIZATION if parts[0][part] != parts[1][part]]
    added = [{token["content"]: token["id"] for token in part["added_tokens"]} for part in parts]
    moved = [token for token, number in added[0].items() if added[1].get(token, number) != number]
    if wrong or moved:
        what = ", ".join(wrong) or f"the ids of {', '.join(moved)}"
        raise InputError(
            f"{names[0]} and {names[1]} have different tokenizers ({what}): their states are not of the same tokens; "
            "name a fine-tune of this very base model"
        )
