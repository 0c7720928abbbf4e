"""Say how surely the items of each profile pick its layers, how many items that takes, and whether domains agree."""

import pandas as pd

from colocate import files, pairs
from colocate.provenance import Job
from colocate.statistics import domains, stability

with Job(__doc__, inputs="per_item* pairs*", outputs="selection stability domains") as job:
    settings = job.settings
    items = {path.name.split(".")[0]: pd.read_parquet(path) for path in job.input.per_item}
    rows = pairs.read_pairs(job.input.pairs)
    labels = {kind: {row.id: getattr(row, kind) for row in rows} for kind in domains.KINDS}
    sensitivity = {name: table for name, table in items.items() if name in settings["sensitivity"]}
    files.write_csv(job.out.selection, stability.selection(items, seed=settings["seed"]))
    files.write_csv(job.out.stability, stability.stability(items, settings["distances"], seed=settings["seed"]))
    files.write_csv(job.out.domains, domains.domains(sensitivity, labels, seed=settings["seed"]))
