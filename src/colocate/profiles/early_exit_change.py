"""Change of the early-exit accuracy of layer l: from which depth on does tuning help the model's own head?

Formula   share of pairs that the tuned model's exit at layer l gets right, minus the base model's share
Source    Zhao et al. 2026, arXiv:2604.11838.

Variants, interval: changes; items (a pair's value is -1, 0 or 1), margin, control: early_exit.
"""

from colocate.files import Progress, silent
from colocate.profiles import Profile, changes, early_exit
from colocate.profiles.compared import Compared


def compute(compared: Compared, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile, items (pairs) and variants of two models."""
    return changes.of_items(early_exit.compute, compared, tokenizer, settings, data, progress)
