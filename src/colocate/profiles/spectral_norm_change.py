"""Change of the spectral norm of layer l: does tuning stretch the states along their main direction?

Formula   s_1 / sqrt(N) of the tuned model's states minus that of the base model's (colocate.profiles.spectral_norm)
Source    Zhao et al. 2026, arXiv:2604.11838.

Variants, interval: changes; texts, pools, centring: whole_sample.
"""

from colocate.files import Progress, silent
from colocate.profiles import Profile, changes
from colocate.profiles.compared import Compared
from colocate.profiles.spectral_norm import per_text


def compute(compared: Compared, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile (n = texts) and variants of two models."""
    return changes.of_sample(per_text, compared, tokenizer, settings, data, progress)
