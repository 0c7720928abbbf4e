"""The rows of this folder in one language, wherever lm-eval is started from."""

from pathlib import Path

from colocate.evaluation.tasks import read_splits


def load(language: str, **_) -> dict:
    return read_splits(Path(__file__).parent, language=language)
