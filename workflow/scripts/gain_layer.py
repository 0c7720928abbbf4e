"""What LoRA on one layer alone, on all but one, or on the block around one does to the held-out loss."""

from colocate import files, gain, training
from colocate.provenance import Job

with Job(__doc__, inputs="model geometry train validate test", outputs="gain run") as job:
    settings = job.settings
    place = files.read_json(job.input.geometry)
    width = settings.get("block_width", 1)
    found = training.subset_loss(
        job.input.model.parent,
        gain.trained_layers(settings["kind"], settings["layer"], place["n_layers"], width),
        {split: getattr(job.input, split) for split in ("train", "validate", "test")},
        settings["training"],
        settings["seed"],
        place["dtype"],
        place["device"],
        job.progress,
    )
    files.write_json(job.out.gain, found | {"layer": settings["layer"]})
    job.record.update(device=place["device"], dtype=place["dtype"])
