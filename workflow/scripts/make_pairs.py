"""Make pairs for a model out of benchmarks' training or validation splits, and of its own answers to them."""

from colocate import files, hub_data, made_pairs
from colocate.provenance import Job

with Job(__doc__, inputs="model geometry data*", outputs="made run") as job:
    settings = job.settings
    place = files.read_json(job.input.geometry)
    sources = {entry.get("source", "builtin") for entry in settings["benchmarks"].values()}
    hub = sorted(sources - {"builtin"})
    counts = made_pairs.write(
        job.out.made,
        settings["made"],
        settings["benchmarks"],
        job.input.model.parent,
        seed=settings["seed"],
        dtype=place["dtype"],
        device=place["device"],
        datasets_dir=hub_data.root_of(job.input.data, hub[0]) if hub else hub_data.FETCHED,
        progress=job.progress,
    )
    job.record.update(device=place["device"], dtype=place["dtype"], made=counts)
