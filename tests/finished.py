"""A small study that has been run to its end, once a session, and what would run in it after a change."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from conftest import ROOT, Checkout

LINE = re.compile(r"^  (\w+)  +(.*?) *reason: ")
OVERLAY = {
    "study": "small",
    "select": {
        "models": ["tiny"],
        "arms": ["base", "colocated", "mid_block", "garfa_sensitive"],
        "benchmarks": ["mini_arc"],
        "arm_profiles": ["weight_change"],
    },
    "pairs": {"limit": 8},
    "layer_sets": {"sensitive": {"top": 1}, "positional": {"top": 1}},
    "profiles": {"rope_output": {"max_texts": 2, "text_tokens": 32}},
    "benchmarks": {"mini_arc": {"limit": 4}, "mini_math": {"limit": 4}},
    "training": {"max_length": 1024, "max_tokens": 2000, "heldout_examples": 4},
    "statistics": {"surrogates": 99, "primary_against": []},
}


class Study(Checkout):
    """A checkout that carries the package, as a clone does, so that a test can edit its code."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        self.use_package()

    def use_package(self) -> None:
        self.environment = self.environment | {"PYTHONPATH": str(self.folder / "src")}

    @classmethod
    def existing(cls, folder: Path) -> "Study":
        """One that was finished before."""
        study = object.__new__(cls)
        study.folder, study.configfiles = folder, ["config/config.yaml", "config/ci.yaml", "config/small.yaml"]
        study.environment = os.environ | {"NO_COLOR": "1"}
        study.use_package()
        return study

    def clone(self, folder: Path, links: bool = False) -> "Study":
        """The same in another folder. `links`: results as hard links, for dry runs, which write none of them."""
        folder.mkdir()
        for path in sorted(self.folder.iterdir()):
            shared = links and path.name in ("results", "resources", "reports", "logs")
            subprocess.run(["cp", "-al" if shared else "-a", path, folder / path.name], check=True)
        return Study.existing(folder)

    def would_run(self, *options: str) -> set[str]:
        """Jobs of a dry run, as its lines name them: "train_arm colocated seed 0"."""
        done = self.snakemake("--dry-run", *options)
        found = {f"{match[1]} {match[2]}".strip() for line in done.stdout.splitlines() if (match := LINE.match(line))}
        assert found or "nothing to do" in done.stdout.lower(), done.stdout[-3000:]
        return found


def finished_study(folder: Path, model: Path) -> Study:
    """The small study on a tiny random model with grouped-query attention, run to its report."""
    from tiny import GEOMETRY

    study = Study(folder)
    study.configfiles.append("config/ci.yaml")  # as in Study.existing
    entry = {"source": f"path:{model}", "geometry": GEOMETRY, "dtype": "float32"}
    study.overlay("small", OVERLAY | {"models": {"tiny": entry}})
    study.snakemake("--quiet", "progress")
    return study
