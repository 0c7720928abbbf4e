"""Train one arm with one seed; an interrupted training goes on from its last checkpoint."""

import hashlib
import shutil
import tempfile
from pathlib import Path

from colocate import files, training
from colocate.provenance import Job

ADAPTER = {
    "config": "adapter_config.json",
    "adapter": "adapter_model.safetensors",
    "training_log": "training_log.csv",
    "alphas": "alphas.csv",
    "temperatures": "temperatures.csv",
    "heldout": "heldout.parquet",
}
INPUTS = "model geometry arm train validate test"

OUTPUTS = "config adapter training_log alphas temperatures heldout run manifest"

with Job(__doc__, inputs=INPUTS, outputs=OUTPUTS) as job:
    settings = job.settings
    place = files.read_json(job.input.geometry)
    # Checkpoints belong to exactly these settings, this code, these packages and these inputs.
    digests = [files.sha256(getattr(job.input, name)) for name in INPUTS.split()]
    key = hashlib.sha256("\n".join([job.identity, *digests]).encode()).hexdigest()[:32]
    scratch = Path(settings["scratch"]) / key
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch.parent) as folder:
        record = training.train(
            job.input.model.parent,
            files.read_json(job.input.arm),
            {split: getattr(job.input, split) for split in ("train", "validate", "test")},
            settings["training"],
            seed=settings["seed"],
            dtype=place["dtype"],
            device=place["device"],
            out=Path(folder),
            scratch=scratch,
            progress=job.progress,
        )
        job.collect(Path(folder), ADAPTER)
    manifest = {file: files.sha256(job.private[name]) for name, file in ADAPTER.items()}
    files.write_json(job.out.manifest, {"sha256": manifest})
    job.record.update(record, device=place["device"], dtype=place["dtype"])
shutil.rmtree(scratch.parent, ignore_errors=True)
