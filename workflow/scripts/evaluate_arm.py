"""Evaluate one arm on one benchmark."""

from colocate import evaluation, files
from colocate.provenance import Job

with Job(__doc__, inputs="model geometry adapter* data*", outputs="summary per_item run") as job:
    settings = job.settings
    place = files.read_json(job.input.geometry)
    summary, items = evaluation.evaluate(
        job.input.model.parent,
        job.input.adapter[0].parent if job.input.adapter else None,
        settings["benchmark"],
        settings["task"],
        settings["evaluation"],
        dtype=place["dtype"],
        device=place["device"],
        progress=job.progress,
    )
    files.write_json(job.out.summary, summary)
    files.write_parquet(job.out.per_item, items)
    job.record.update(device=place["device"], dtype=place["dtype"])
