"""Forgetting, on text that no benchmark asks about: how far a tuned model's next-token distributions are from base.

    KL = mean over positions t of sum_y p_base(y | x_<t) log (p_base(y | x_<t) / p_tuned(y | x_<t))       in nats

per text, float64 softmax. 0 at the base model; it needs no labels. Source: the measure of Ouyang et al. 2022,
arXiv:2203.02155 (its per-token penalty), with the base model as reference and its own text in place of samples.
"""

from collections.abc import Sequence

import pandas as pd
import torch

from colocate.files import Progress, silent
from colocate.pairs import Text
from colocate.profiles.compared import Compared

MAX_TOKENS = 256  # of each text: enough positions, and the same number for long texts and for short ones
ROWS = 64  # positions whose distributions are held in float64 at once


def kl_to_base(
    compared: Compared, tokenizer, texts: Sequence[Text], *, max_tokens: int = MAX_TOKENS, progress: Progress = silent
) -> pd.DataFrame:
    """DataFrame text (its id), tokens, kl: mean KL of each text in nats a position, of its first `max_tokens` tokens.

    Texts of one token say nothing and are left out.
    """
    rows = []
    for number, text in enumerate(texts):
        ids = tokenizer(text.text)["input_ids"][:max_tokens]
        if len(ids) > 1:
            base, tuned = compared.both(lambda model, _, ids=ids: _logits(model, ids))
            rows.append((text.id, len(ids), _kl(base, tuned)))
        progress((number + 1) / len(texts), "texts")
    return pd.DataFrame(rows, columns=["text", "tokens", "kl"])


@torch.inference_mode()
def _logits(model, ids: list[int]) -> torch.Tensor:
    """(T - 1, V): after each token but the last, whose next one the text does not have."""
    return model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, :-1].float()


def _kl(base: torch.Tensor, tuned: torch.Tensor) -> float:
    total = 0.0
    for start in range(0, len(base), ROWS):
        p, q = (logits[start : start + ROWS].double().log_softmax(-1) for logits in (base, tuned))
        total += float((p.exp() * (p - q)).sum())
    return max(0.0, total / len(base))
