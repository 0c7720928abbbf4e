"""Change of the prompt entropy of layer l: do a text's tokens spread over more directions after tuning?

Formula   mean over texts of the tuned model's entropy minus the base model's (colocate.profiles.prompt_entropy)
Source    Zhao et al. 2026, arXiv:2604.11838.

Variants, interval: changes; texts, items: token_paths.
"""

from colocate.files import Progress, silent
from colocate.profiles import Profile, changes, prompt_entropy
from colocate.profiles.compared import Compared


def compute(compared: Compared, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile, items (texts) and variants of two models."""
    return changes.of_items(prompt_entropy.compute, compared, tokenizer, settings, data, progress)
