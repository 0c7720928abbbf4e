"""Keep what enters the first adapted layer, so that later epochs need not compute it again.

Nothing below layer f, the lowest with a trained parameter, changes in a run: the states (T, D) that enter it are those
of the base model, the same in every epoch and at every held-out measurement. Each example's states are kept in RAM in
the model's dtype, 2 D or 4 D bytes a token, and a forward of a row starts at layer f with the states of its examples.

Which examples are kept follows from the plan alone: those that are used more than once, held-out ones first, while
they fit. Their states are computed before the first step, in rows of their own; those of the others when a row needs
them. So an interrupted run, which computes them again, gets the same bits.

The rows are those of the plain run. Where each row of a matrix product is computed in the same way however many there
are, losses are the plain run's, bit for bit: so it was on x86 in bfloat16 and float32 with 16 rows and more.
"""

from collections.abc import Callable
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from colocate.models import decoder_layers

GIB = 2**30


class PrefixCache:
    """States entering layer `first`, by example; `forward(row)` runs the model over a row of examples."""

    def __init__(self, model, forward: Callable[[list], object], gib: float):
        embedding = model.get_input_embeddings().weight
        self.first = first_trained_layer(model)
        self._layer, self._forward, self._device = decoder_layers(model)[self.first], forward, embedding.device
        self._room, self._bytes = gib * GIB, embedding.shape[1] * embedding.dtype.itemsize  # of a token
        self._kept: dict[int, Tensor] = {}  # by id(): examples live as long as the run

    @property
    def used(self) -> int:
        """Bytes kept."""
        return sum(states.nbytes for states in self._kept.values())

    def choose(self, examples: list) -> list:
        """Of these examples, in this order, those that fit."""
        chosen = []
        for example in examples:
            size = len(example.ids) * self._bytes
            if size <= self._room:
                chosen.append(example)
                self._room -= size
        return chosen

    def keep(self, row: list) -> None:
        """Compute and keep the states of the examples of one row."""
        self._kept |= {key: states.cpu() for key, states in self._compute(row).items()}

    def states(self, row: list) -> Tensor:
        """(1, T, D): states of a row of examples; those that are not kept are computed, in one row."""
        missing = [example for example in row if id(example) not in self._kept]
        found = self._kept | self._compute(missing) if missing else self._kept
        return torch.cat([found[id(example)].to(self._device) for example in row])[None]

    @torch.no_grad()
    def _compute(self, row: list) -> dict[int, Tensor]:
        with _reaching(self._layer) as reached, suppress(_Reached):
            self._forward(row)
        states = reached[0][0].split([len(example.ids) for example in row])
        return {id(example): part.clone() for example, part in zip(row, states, strict=True)}


def first_trained_layer(model) -> int:
    """The lowest decoder layer that has a parameter with a gradient."""
    trained = (any(p.requires_grad for p in layer.parameters()) for layer in decoder_layers(model))
    return next(number for number, has in enumerate(trained) if has)


class _Reached(Exception):
    """Ends a forward pass at a layer: nothing above is needed."""


@contextmanager
def _reaching(layer):
    reached = []

    def stop(module, args, kwargs):
        reached.append(args[0] if args else kwargs["hidden_states"])
        raise _Reached

    handle = layer.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        yield reached
    finally:
        handle.remove()
