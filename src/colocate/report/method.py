"""Section 7: how it was done. Contamination and versions."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import yaml

from colocate.files import read_json
from colocate.report.bill import compute_by_rule
from colocate.report.table import Table, plain, read


def section(results: Path, compute: pd.DataFrame, config: dict, records: Iterable[str | Path]) -> dict:
    """What section 7 shows of the study as a whole."""
    return {
        "contamination": contamination(results / "mixture"),
        "compute": compute_by_rule(compute),
        "config": yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100),
        "versions": versions(records),
    }


def contamination(folder: Path) -> dict:
    """How many training rows share a passage with which benchmark, and examples by id; `folder`: the mixture's."""
    counts, examples = (folder / f"contamination{name}.csv" for name in ("_counts", ""))
    return {
        "checked": examples.is_file(),
        "counts": plain("Training rows that share a passage with a reference", read(counts)),
        "table": plain("Examples, by id", read(examples)),
    }


def versions(records: Iterable[str | Path]) -> Table:
    """Packages and their versions over all run records; more than one version of a package is shown as such."""
    found: dict[str, set[str]] = {}
    for path in records:
        for package, version in read_json(path).get("versions", {}).items():
            found.setdefault(package, set()).add(version)
    rows = [[package, ", ".join(sorted(found[package]))] for package in sorted(found)]
    return Table("Software of the jobs", ["package", "version"], rows)
