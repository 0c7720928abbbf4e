"""Correlate every sensitivity profile with every RoPE profile, and every variant with every other."""

import pandas as pd

from colocate import files
from colocate.provenance import Job
from colocate.statistics import correlations

with Job(__doc__, inputs="profiles* per_item* variants*", outputs="correlations specifications run") as job:
    settings = job.settings
    metrics = settings["metrics"]

    def by_name(paths, read) -> dict:
        return {path.name.split(".")[0]: read(path) for path in paths}

    chosen = {
        metric: [name for name, kind in metrics.items() if kind == metric]
        for metric in ("sensitivity", "rope_influence")
    }
    table, specifications = correlations.correlate(
        by_name(job.input.profiles, pd.read_csv),
        by_name(job.input.per_item, pd.read_parquet),
        [(x, y) for x in chosen["sensitivity"] for y in chosen["rope_influence"]],
        (settings["primary_sensitivity"], settings["primary_rope"]),
        settings["surrogates"],
        settings["seed"],
        variants=by_name(job.input.variants, pd.read_parquet),
    )
    files.write_csv(job.out.correlations, table)
    files.write_csv(job.out.specifications, specifications)
