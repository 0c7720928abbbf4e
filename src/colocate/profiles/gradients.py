"""What gradient_norm and empirical_fisher share: the size of each example's gradient in each layer's linear weights.

For y = W x over the T tokens of one example, with d_t = d loss / d y_t: d loss / d W = sum_t d_t x_t^T, whose squared
Frobenius norm is sum over t, u of (d_t . d_u)(x_t . x_u): two (T, T) matrices a module, and never a gradient of the
weights' size (Goodfellow 2015, arXiv:1510.01799; Li et al. 2022, arXiv:2110.05679, section 4). Both are gone as soon as
the backward pass has gone through the module, so memory is that of one batch's activations.

loss of an example = mean over its labels of -log p(label | what precedes it). Examples: the first `max_examples` of the
training mixture; item = the example's id. Variants: `all` linear modules of the layer, `attention`, and each by name.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from colocate.errors import InputError
from colocate.files import Progress, silent
from colocate.instructions import IGNORED
from colocate.models import attention, decoder_layers
from colocate.profiles import Profile, tables
from colocate.profiles.capture import length_batches, pad
from colocate.profiles.settings import at_least, choice, parse
from colocate.training_data import Example

PARTS = ("all", "attention")


@dataclass(frozen=True)
class Settings:
    """modules: whose gradient becomes the profile. seed: of the bootstrap. batch_tokens: of one backward pass."""

    modules: str = "all"
    max_examples: int = 64
    seed: int = 0
    batch_tokens: int = 1024

    def __post_init__(self):
        choice("modules", self.modules, PARTS)
        at_least("max_examples", self.max_examples, 1)
        at_least("batch_tokens", self.batch_tokens, 1)


def measure(
    of_squares: Callable[[np.ndarray], np.ndarray], model, settings: dict, data: dict, progress: Progress = silent
) -> Profile:
    """Profile, items and variants of a function of the squared norms, (n, L) to (n, L)."""
    chosen = parse(Settings, settings)
    examples = data["examples"][: chosen.max_examples]
    if not examples:
        raise InputError("examples: found none, expected at least one of the training mixture")
    ids = [example.id for example in examples]
    found = squared_norms(model, examples, chosen.batch_tokens, progress)
    found = {name: (ids, of_squares(squares)) for name, squares in found.items()}
    return tables.of_items(found, chosen.modules, chosen.seed)


def squared_norms(
    model, examples: Sequence[Example], batch_tokens: int, progress: Progress = silent
) -> dict[str, np.ndarray]:
    """Variant to ||d loss / d W||_F^2 of each of n examples in each layer, summed over the modules: (n, L) float64.

    NaN in a layer that has no such module. InputError where a gradient is not finite.
    """
    layers, done = decoder_layers(model), 0
    device = next(model.parameters()).device
    squares: dict[str, np.ndarray] = {}
    with _inputs_require_grad(model):
        for rows in length_batches([len(example.ids) for example in examples], batch_tokens):
            ids, mask = pad([examples[row].ids for row in rows], device)
            labels, _ = pad([examples[row].labels for row in rows], device, IGNORED)

            def add(layer: int, parts: tuple[str, ...], values: Tensor, rows=rows) -> None:
                for part in parts:
                    table = squares.setdefault(part, np.full((len(examples), len(layers)), np.nan))
                    table[rows, layer] = np.nan_to_num(table[rows, layer]) + values.double().cpu().numpy()

            with _gradients_seen(layers, add):
                _mean_losses(model, ids, mask, labels).sum().backward()
            done += len(rows)
            progress(done / len(examples), f"{done} of {len(examples)} examples")
    if not np.isfinite(squares["all"]).all():
        layer = int(np.argmin(np.isfinite(squares["all"]).all(axis=0)))
        dtype = str(model.dtype).removeprefix("torch.")
        raise InputError(f"layer {layer}: its gradients are not finite in {dtype}; set the model's dtype to float32")
    return squares


def _mean_losses(model, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
    """Mean loss over the labels of each example, (B,). Positions before the batch's first label skip the head."""
    first_label = int((labels != IGNORED).any(dim=0).nonzero()[0])
    keep = ids.shape[1] - first_label + 1  # the position before a label predicts it
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=keep).logits[:, -keep:-1]
    labels = labels[:, first_label:]
    losses = functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
    return losses.view(labels.shape).sum(dim=1) / (labels != IGNORED).sum(dim=1)


@contextmanager
def _inputs_require_grad(model) -> Iterator[None]:
    """Within the block, gradients go down to the input of layer 0, and no parameter gets any."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def start(module, args, kwargs):
        if args:
            return (args[0].detach().requires_grad_(), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": kwargs["hidden_states"].detach().requires_grad_()}

    handle = decoder_layers(model)[0].register_forward_pre_hook(start, with_kwargs=True)
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        handle.remove()
        for parameter in trainable:
            parameter.requires_grad_()


@contextmanager
def _gradients_seen(layers: Sequence[nn.Module], add: Callable) -> Iterator[None]:
    """Within the block, every backward pass calls add(layer, variants, squared norms (B,)) for each linear module."""

    def hook(layer: int, parts: tuple[str, ...]):
        def watch(module, args, output):
            x = args[0].detach()
            if x.dim() != 3:
                raise InputError(f"layer {layer}: {parts[0]} sees {x.dim()} dimensions, expected batch, tokens, width")
            output.register_hook(lambda d: add(layer, parts, _squared_norm(x, d)))

        return watch

    handles = []
    for layer, parent in enumerate(layers):
        inside = {id(module) for module in attention(parent).modules()}
        for name, module in parent.named_modules():
            if isinstance(module, nn.Linear):
                parts = (name.rpartition(".")[2], "all", *(["attention"] if id(module) in inside else []))
                handles.append(module.register_forward_hook(hook(layer, parts)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _squared_norm(x: Tensor, d: Tensor) -> Tensor:
    """||sum_t d_t x_t^T||_F^2 of each example: (B, T, in) and (B, T, out) to (B,), float32 at least."""
    x, d = (values if values.dtype == torch.float64 else values.float() for values in (x, d))
    return ((x @ x.mT) * (d @ d.mT)).sum(dim=(1, 2))
