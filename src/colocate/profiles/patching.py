"""Activation patching at layer l: does its state at the prompt's end carry what decides the answer?

Two pairs P and Q are partners where P's right answer a is Q's wrong one and Q's right answer b is P's (pairs.swaps).
The log odds o = log p(a) - log p(b) are high after P's prompt and low after Q's. Run Q's prompt, but at its last token
put P's output of layer l in the place of Q's own: o rises from o(Q) to o_l.

Formula   value_l = mean (o_l - o(Q)) / mean (o(P) - o(Q)), over partners, both ways round: 0 nothing of the answer is
          in that state yet, 1 all of it is. At the last layer 1 exactly, since only that state reaches the head
Source    Meng et al. 2022, arXiv:2202.05262; normalised log odds: Zhang & Nanda 2023, arXiv:2309.16042.

Not within a pair: its two texts have one prompt, so all states that could predict the answer are the same in both. a
and b stand for their first different tokens, and what they share before goes to the prompt. Item = P's id>Q's id, its
value (o_l - o(Q)) over the same mean, so that the items' mean is the profile. Variants: `normalised`, and `log_odds`,
the rise in nat.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from colocate.errors import InputError
from colocate.files import Progress, silent
from colocate.models import decoder_layers
from colocate.pairs import Pair, encode, swaps
from colocate.profiles import Profile, tables
from colocate.profiles.answers import check_answers, exit_log_probabilities
from colocate.profiles.capture import check_plain, decoder_of, first, forwards, recorded, resumed
from colocate.profiles.settings import at_least, parse


@dataclass(frozen=True)
class Settings:
    """seed: of the bootstrap. batch_tokens: tokens that share a forward."""

    seed: int = 0
    batch_tokens: int = 4096

    def __post_init__(self):
        at_least("batch_tokens", self.batch_tokens, 1)


@dataclass(frozen=True)
class Exchange:
    """`right` and `wrong`: token ids of P's and Q's prompt; `answers`: the next token after each, if all is well."""

    item: str
    right: list[int]
    wrong: list[int]
    answers: tuple[int, int]


def compute(model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile, items and variants over the partners among data["pairs"]."""
    chosen = parse(Settings, settings)
    check_answers(model, tokenizer, data["pairs"])
    exchanges = [
        found
        for one, other in swaps(data["pairs"])
        for found in exchanges_of(tokenizer, one, other)
        if found is not None
    ]
    if not exchanges:
        raise InputError(
            "pairs: found no partners (each one's right answer the other's wrong one), patching needs them"
        )
    rise, whole = patched_log_odds(model, exchanges, chosen.batch_tokens, progress)
    if not whole.mean() > 0:
        raise InputError(
            f"patching: the log odds rise by {whole.mean():.3g} nat from the wrong prompts to the right ones; "
            "a model that does not tell the prompts apart has nothing to patch"
        )
    items = [exchange.item for exchange in exchanges]
    found = {"normalised": (items, rise / whole.mean()), "log_odds": (items, rise)}
    return tables.of_items(found, "normalised", chosen.seed)


def exchanges_of(tokenizer, one: Pair, other: Pair) -> list[Exchange | None]:
    """Both ways round; None where one answer's tokens begin with all of the other's."""
    (ids, start), (other_ids, other_start) = (encode(tokenizer, pair.prompt, pair.correct) for pair in (one, other))
    answers = list(zip(ids[start:], other_ids[other_start:], strict=False))
    shared = next((index for index, (a, b) in enumerate(answers) if a != b), None)
    if shared is None:
        return [None, None]
    prompts, (a, b) = (ids[: start + shared], other_ids[: other_start + shared]), answers[shared]
    return [
        Exchange(f"{one.id}>{other.id}", *prompts, (a, b)),
        Exchange(f"{other.id}>{one.id}", *prompts[::-1], (b, a)),
    ]


@torch.no_grad()
def patched_log_odds(
    model, exchanges: Sequence[Exchange], batch_tokens: int, progress: Progress = silent
) -> tuple[np.ndarray, np.ndarray]:
    """o_l - o(Q), (n, L), and o(P) - o(Q), (n,), in nat, float64."""
    layers, decoder = decoder_layers(model), decoder_of(model)
    answers = torch.tensor([exchange.answers for exchange in exchanges], device=next(decoder.parameters()).device)

    def log_odds(states: Tensor, rows: list[int]) -> np.ndarray:
        log_p = exit_log_probabilities(model, states, answers[rows])
        return (log_p[:, 0] - log_p[:, 1]).cpu().numpy()

    kept, clean = {}, np.empty(len(exchanges))  # exchange -> states of P's last token, (L, D)
    for batch in forwards(model, [(exchange.right, 0) for exchange in exchanges], batch_tokens):
        check_plain(layers, batch.calls)
        last = [n - 1 for _, n in batch.spans]
        states = torch.stack([first(call[2])[range(len(last)), last] for call in batch.calls])
        kept |= zip(batch.rows, states.unbind(dim=1), strict=True)
        clean[batch.rows] = log_odds(states[-1], batch.rows)

    corrupted, patched = np.empty(len(exchanges)), np.empty((len(exchanges), len(layers)))
    for batch in forwards(model, [(exchange.wrong, 0) for exchange in exchanges], batch_tokens, progress):
        ends = range(len(batch.rows)), [n - 1 for _, n in batch.spans]
        given = torch.stack([kept[row] for row in batch.rows], dim=1)  # (L, B, D)
        corrupted[batch.rows] = log_odds(first(batch.calls[-1][2])[ends], batch.rows)
        for layer, call in enumerate(batch.calls[:-1]):
            hidden = first(call[2]).clone()
            hidden[ends] = given[layer]
            with resumed(model, layer + 1, hidden), recorded(layers[-1:]) as calls:
                decoder(input_ids=batch.ids, use_cache=False)
            patched[batch.rows, layer] = log_odds(first(calls[0][2])[ends], batch.rows)
        patched[batch.rows, -1] = log_odds(given[-1], batch.rows)
    return patched - corrupted[:, np.newaxis], clean - corrupted
