"""What a finished study has to say: where its report is and its first findings. Reads files, runs nothing."""

import json
from pathlib import Path

FINDINGS = 3


def report(config: dict) -> Path | None:
    """The report of a study's merged config, if it exists."""
    path = Path("reports") / f"{config['study']}.html"
    return path if path.is_file() else None


def findings(config: dict) -> dict[str, list[str]]:
    """{model: its most important findings, in words}, of the models that have any."""
    said = {}
    for model in config["select"]["models"]:
        path = Path("results") / config["study"] / model / "statistics/findings.json"
        try:
            texts = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if texts:
            said[model] = texts[:FINDINGS]
    return said
