"""Try one pair of learning rates for an arm: a short training and its held-out loss on validate."""

import shutil
from pathlib import Path

from colocate import files, layer_sets, training
from colocate.provenance import Job

with Job(__doc__, inputs="model geometry sets* train validate test", outputs="tried run") as job:
    settings = job.settings
    place = files.read_json(job.input.geometry)
    resolved = layer_sets.resolve(
        **settings["resolve"],
        sets={path.stem: files.read_json(path)["layers"] for path in job.input.sets},
        geometry=place,
    )
    tried = training.tune(
        job.input.model.parent,
        resolved,
        {split: getattr(job.input, split) for split in ("train", "validate", "test")},
        settings["training"],
        seed=resolved["seed"],
        dtype=place["dtype"],
        device=place["device"],
        scratch=Path(settings["scratch"]),
        progress=job.progress,
    )
    files.write_json(job.out.tried, {"arm": resolved["arm"]} | tried)
    job.record.update(device=place["device"], dtype=place["dtype"], tokens=tried["tokens"])
shutil.rmtree(settings["scratch"], ignore_errors=True)
