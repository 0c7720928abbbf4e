"""Early exit at layer l: does the model's own head already prefer the right answer?

Formula   share of pairs with log p_l(correct) > log p_l(incorrect) (a tie counts 1/2); p_l = softmax(head(norm(h_l))),
          h_l the output of layer l, norm and head the model's own. log p_l(answer) = sum over its tokens, each given
          the prompt and the tokens before it. At the last layer: the model's own choice. Chance 0.5
Source    logit lens (nostalgebraist 2020); early-exit accuracy over depth: Zhao et al. 2026, arXiv:2604.11838.

Item = the pair's id, its value 1 or 0. Variants: `accuracy`; `margin`, log p_l(correct) - log p_l(incorrect) in nat;
`wrong_wrong`, the accuracy of incorrect over incorrect2, which nothing pushes from 0.5.
"""

from dataclasses import dataclass

import numpy as np
import torch

from colocate.files import Progress, silent
from colocate.models import decoder_layers
from colocate.pairs import encode
from colocate.profiles import Profile, tables
from colocate.profiles.answers import check_answers, exit_log_probabilities
from colocate.profiles.capture import check_plain, first, forwards
from colocate.profiles.settings import at_least, parse

ANSWERS = ("correct", "incorrect", "incorrect2")


@dataclass(frozen=True)
class Settings:
    """seed: of the bootstrap. batch_tokens: tokens that share a forward."""

    seed: int = 0
    batch_tokens: int = 4096

    def __post_init__(self):
        at_least("batch_tokens", self.batch_tokens, 1)


def compute(model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile, items and variants over data["pairs"]."""
    chosen = parse(Settings, settings)
    pairs = data["pairs"]
    check_answers(model, tokenizer, pairs)
    encoded = [encode(tokenizer, pair.prompt, getattr(pair, name)) for pair in pairs for name in ANSWERS]
    log_p = answer_log_probabilities(model, encoded, chosen.batch_tokens, progress)
    correct, incorrect, incorrect2 = log_p.reshape(len(pairs), len(ANSWERS), -1).swapaxes(0, 1)
    found = {
        "accuracy": np.heaviside(correct - incorrect, 0.5),
        "margin": correct - incorrect,
        "wrong_wrong": np.heaviside(incorrect - incorrect2, 0.5),
    }
    ids = [pair.id for pair in pairs]
    return tables.of_items({name: (ids, values) for name, values in found.items()}, "accuracy", chosen.seed)


@torch.no_grad()
def answer_log_probabilities(
    model, encoded: list[tuple[list[int], int]], batch_tokens: int, progress: Progress = silent, last: bool = False
) -> np.ndarray:
    """log p_l of the answer of each of n texts at the exit of each layer, (n, L) float64; (n, 1) of the `last` alone.

    encoded: token ids, and the index of the answer's first token (at least 1, or it has no state to be read from).
    """
    layers = decoder_layers(model)
    exits = slice(-1, None) if last else slice(None)
    values = np.zeros((len(encoded), len(layers[exits])))
    for batch in forwards(model, encoded, batch_tokens, progress):
        check_plain(layers, batch.calls)
        places = [(row, at) for row, (start, n) in enumerate(batch.spans) for at in range(start - 1, n - 1)]
        rows, at = torch.tensor(places, device=batch.ids.device).T
        texts = np.array(batch.rows)[rows.cpu().numpy()]  # numpy takes a tensor of one element for a plain index
        for layer, call in enumerate(batch.calls[exits]):
            log_p = exit_log_probabilities(model, first(call[2])[rows, at], batch.ids[rows, at + 1])
            np.add.at(values[:, layer], texts, log_p.cpu().numpy())
    return values
