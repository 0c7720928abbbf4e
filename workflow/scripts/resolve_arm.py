"""Resolve an arm for one seed: layers, ranks, scale, targets, learning rates, trainable parameters."""

from colocate import files, layer_sets
from colocate.provenance import Job

with Job(__doc__, inputs="geometry sets*", outputs="arm") as job:
    settings = job.settings
    resolved = layer_sets.resolve(
        settings["arm"],
        settings["seed"],
        settings["entry"],
        settings["matched"],
        settings["rules"],
        {path.stem: files.read_json(path)["layers"] for path in job.input.sets},
        files.read_json(job.input.geometry),
        settings["training"],
    )
    files.write_json(job.out.arm, resolved)
