"""Resolve an arm for one seed: layers, ranks, scale, targets, learning rates, trainable parameters."""

from colocate import files, layer_sets, tuning
from colocate.provenance import Job

with Job(__doc__, inputs="geometry sets* tries*", outputs="arm") as job:
    settings = job.settings
    chosen = None
    if "tuning" in settings:
        tries = [files.read_json(path) for path in job.input.tries]
        chosen = tuning.choose(settings["resolve"]["arm"], tries, settings["tuning"]["seed"])
    resolved = layer_sets.resolve(
        **settings["resolve"],
        sets={path.stem: files.read_json(path)["layers"] for path in job.input.sets},
        geometry=files.read_json(job.input.geometry),
        tuning=chosen,
    )
    files.write_json(job.out.arm, resolved)
