"""Gain in held-out loss of LoRA on one layer alone."""

from colocate import files, training
from colocate.provenance import Job

with Job(__doc__, inputs="model geometry train validate test", outputs="gain run") as job:
    settings = job.settings
    place = files.read_json(job.input.geometry)
    gain = training.layer_gain(
        job.input.model.parent,
        settings["layer"],
        {split: getattr(job.input, split) for split in ("train", "validate", "test")},
        settings["training"] | {"chat_template": settings["chat_template"]},
        settings["seed"],
        place["dtype"],
        place["device"],
        job.progress,
    )
    files.write_json(job.out.gain, gain)
    job.record.update(device=place["device"], dtype=place["dtype"])
