"""Change of the curvature of layer l: does a text's path through the states turn more sharply after tuning?

Formula   mean over texts of the tuned model's curvature minus the base model's (colocate.profiles.curvature)
Source    Zhao et al. 2026, arXiv:2604.11838.

Variants, interval: changes; texts, items: token_paths.
"""

from colocate.files import Progress, silent
from colocate.profiles import Profile, changes, curvature
from colocate.profiles.compared import Compared


def compute(compared: Compared, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile, items (texts) and variants of two models."""
    return changes.of_items(curvature.compute, compared, tokenizer, settings, data, progress)
