"""Evaluate one arm on one benchmark."""

from colocate import evaluation, files, hub_data
from colocate.provenance import Job

with Job(__doc__, inputs="model geometry adapter* data*", outputs="summary per_item run") as job:
    settings = job.settings
    for adapter in job.input.adapter:
        files.verify(adapter.with_name("manifest.json"))
    place = files.read_json(job.input.geometry)
    summary, items = evaluation.evaluate(
        job.input.model.parent,
        job.input.adapter[0].parent if job.input.adapter else None,
        settings["benchmark"],
        settings["task"],
        settings["evaluation"],
        dtype=place["dtype"],
        device=place["device"],
        datasets_dir=hub_data.root_of(job.input.data, settings["task"]["source"]),
        progress=job.progress,
        record=job.record,
    )
    files.write_json(job.out.summary, summary)
    files.write_parquet(job.out.per_item, items)
    job.record.update(device=place["device"], dtype=place["dtype"])
