"""Make pairs for a model out of benchmarks' training or validation splits, and of its own answers to them."""

from colocate import files, made_pairs
from colocate.provenance import Job

with Job(__doc__, inputs="model geometry data*", outputs="made run") as job:
    settings = job.settings
    place = files.read_json(job.input.geometry)
    counts = made_pairs.write(
        job.out.made,
        settings["made"],
        settings["benchmarks"],
        job.input.model.parent,
        seed=settings["seed"],
        dtype=place["dtype"],
        device=place["device"],
        progress=job.progress,
    )
    job.record.update(device=place["device"], dtype=place["dtype"], made=counts)
