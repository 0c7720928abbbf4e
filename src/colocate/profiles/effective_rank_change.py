"""Change of the effective rank of layer l: does tuning spread the texts over more directions, or over fewer?

Formula   effective rank of the tuned model's states minus that of the base model's (colocate.profiles.effective_rank)
Source    Zhao et al. 2026, arXiv:2604.11838.

Variants, interval: changes; texts, pools, centring: whole_sample.
"""

from colocate.files import Progress, silent
from colocate.profiles import Profile, changes
from colocate.profiles.compared import Compared
from colocate.profiles.representation import effective_rank


def compute(compared: Compared, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile (n = texts) and variants of two models."""
    return changes.of_sample(effective_rank, compared, tokenizer, settings, data, progress)
