"""Correlate every sensitivity profile with every RoPE profile: the model's, every reading of both, and the twins'."""

import pandas as pd

from colocate import files
from colocate.provenance import Job
from colocate.statistics import correlations, specifications, twins

OUTPUTS = "correlations specifications specification_curve twin_table run"

with Job(__doc__, inputs="profiles* per_item* variants* twins* frozen", outputs=OUTPUTS) as job:
    settings = job.settings
    kinds = {name: entry["metric"] for name, entry in settings["profiles"].items()}

    def by_name(paths, read) -> dict:
        found = {path.name.split(".")[0]: path for path in paths}
        return {name: read(path) for name, path in found.items() if kinds.get(name) in specifications.DEFAULTS}

    sensitivity, rope = ([name for name, kind in kinds.items() if kind == metric] for metric in specifications.DEFAULTS)
    primary = (settings["primary_sensitivity"], settings["primary_rope"])
    profiles = by_name(job.input.profiles, pd.read_csv)
    variants = by_name(job.input.variants, pd.read_parquet)
    table = correlations.correlate(
        profiles,
        by_name(job.input.per_item, pd.read_parquet),
        [(x, y) for x in sensitivity for y in rope],
        primary,
        settings["surrogates"],
        settings["seed"],
        variants=variants,
    )
    curve, summary = specifications.curve(
        profiles,
        variants,
        settings["profiles"],
        primary,
        specifications.read_frozen(job.input.frozen),
        settings["surrogates"],
        settings["seed"],
    )
    of_twins: dict[str, dict] = {}
    for path in job.input.twins:
        of_twins.setdefault(path.parent.name, {})[path.stem] = pd.read_csv(path)
    files.write_csv(job.out.correlations, specifications.mark_primary(table, summary))
    files.write_csv(job.out.specifications, curve)
    files.write_json(job.out.specification_curve, summary)
    files.write_csv(job.out.twin_table, twins.twins(of_twins, primary))
