"""Segment swap: what is lost when one depth segment of the tuned model is the base model's again.

Formula   value of every layer of segment s = mean over pairs of -log p_s(answer) + log p(answer), in nat: p the tuned
          model, p_s the tuned model with the base model's layers in segment s; answer: the pair's right one, log p
          summed over its tokens. Segment i of n: layers int(i L / n) to int((i + 1) L / n) - 1
Source    Zhao et al. 2026, arXiv:2604.11838 (five segments; there scored by accuracy, here by log-probability, which
          resolves more with few items).

Item = the pair's id. Variants: `nll`, the formula; `log_odds`, the fall of log p(right) - log p(wrong), which a change
of wording alone does not move; nll/all and log_odds/all with all layers swapped at once: what the layers' tuning does
in all. A segment's value has n = pairs, and its layers share it.
"""

from dataclasses import dataclass

import numpy as np

from colocate.files import Progress, silent
from colocate.layer_sets import segments
from colocate.pairs import encode
from colocate.profiles import Profile, tables
from colocate.profiles.answers import check_answers
from colocate.profiles.compared import Compared
from colocate.profiles.early_exit import answer_log_probabilities
from colocate.profiles.settings import at_least, choice, parse

OUTCOMES = ("nll", "log_odds")


@dataclass(frozen=True)
class Settings:
    """outcome: which becomes the profile. seed: of the bootstrap. batch_tokens: tokens that share a forward."""

    outcome: str = "nll"
    segments: int = 5
    seed: int = 0
    batch_tokens: int = 4096

    def __post_init__(self):
        choice("outcome", self.outcome, OUTCOMES)
        at_least("segments", self.segments, 1)
        at_least("batch_tokens", self.batch_tokens, 1)


def compute(compared: Compared, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile, items and variants over data["pairs"]."""
    chosen = parse(Settings, settings)
    pairs, n_layers = data["pairs"], compared.n_layers
    check_answers(compared.model, tokenizer, pairs)
    encoded = [encode(tokenizer, pair.prompt, answer) for pair in pairs for answer in (pair.correct, pair.incorrect)]
    parts = [segments("0" * i + "1" + "0" * (chosen.segments - 1 - i), n_layers) for i in range(chosen.segments)]
    plan = [[], *parts, range(n_layers)]

    def outcomes(number: int) -> np.ndarray:
        """(2 OUTCOMES, n): -log p(right) and the log odds of wrong over right, both lower where the model is better."""
        with compared.swapped(plan[number]) as model:
            log_p = answer_log_probabilities(
                model,
                encoded,
                chosen.batch_tokens,
                lambda done, note="": progress((number + done) / len(plan), note),
                last=True,
            )
        right, wrong = log_p.reshape(len(pairs), 2).T
        return np.stack((-right, wrong - right))

    tuned, *swapped, everything = (outcomes(number) for number in range(len(plan)))
    values, whole = np.empty((len(OUTCOMES), len(pairs), n_layers)), everything - tuned
    for part, found in zip(parts, swapped, strict=True):
        values[:, :, part] = (found - tuned)[:, :, np.newaxis]
    items, found = [pair.id for pair in pairs], {}
    for number, name in enumerate(OUTCOMES):
        found[name] = items, values[number]
        found[f"{name}/all"] = items, np.repeat(whole[number][:, np.newaxis], n_layers, axis=1)
    return tables.of_items(found, chosen.outcome, chosen.seed)
