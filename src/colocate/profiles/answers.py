"""What metrics of right and wrong answers share: a check of the pairs, and what the head says of a layer's states."""

from collections.abc import Sequence

import torch
from torch import Tensor

from colocate.errors import InputError
from colocate.models import decoder_layers
from colocate.pairs import Pair, check_tokens
from colocate.profiles.capture import context_length, resumed

EXIT_ROWS = 256  # positions that go through the head together: bounds the memory of their logits


def check_answers(model, tokenizer, pairs: Sequence[Pair]) -> None:
    """InputError without pairs, or where one is too long or has answers that the tokenizer does not tell apart."""
    if not pairs:
        raise InputError("pairs: found none, expected at least one")
    problems = check_tokens(pairs, tokenizer, context_length(model))
    if problems:
        raise InputError(problems[0] + (f" (and {len(problems) - 1} more problems)" if problems[1:] else ""))


def exit_log_probabilities(model, states: Tensor, tokens: Tensor) -> Tensor:
    """log p of `tokens` (M, ...) by the model's own final norm and head on layer states (M, D); float64, (M, ...)."""
    n_layers, found = len(decoder_layers(model)), []
    for part, chosen in zip(states.split(EXIT_ROWS), tokens.split(EXIT_ROWS), strict=True):
        with resumed(model, n_layers, part.unsqueeze(0)):
            logits = model(
                input_ids=torch.zeros_like(chosen.reshape(len(part), -1)[None, :, 0]), use_cache=False
            ).logits
        log_p = logits[0].double().log_softmax(dim=-1)
        found.append(log_p.gather(1, chosen.reshape(len(part), -1)).reshape(chosen.shape))
    return torch.cat(found)
