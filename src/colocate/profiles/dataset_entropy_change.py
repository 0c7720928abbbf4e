"""Change of the data-set entropy of layer l: does tuning keep the texts apart more evenly, or less?

Formula   entropy of the tuned model's states minus that of the base model's (colocate.profiles.dataset_entropy)
Source    Zhao et al. 2026, arXiv:2604.11838.

Variants, interval: changes; texts, pools, centring: whole_sample.
"""

from colocate.files import Progress, silent
from colocate.profiles import Profile, changes
from colocate.profiles.compared import Compared
from colocate.profiles.representation import matrix_entropy


def compute(compared: Compared, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile (n = texts) and variants of two models."""
    return changes.of_sample(matrix_entropy, compared, tokenizer, settings, data, progress)
