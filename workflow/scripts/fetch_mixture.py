"""Make the training mixture: three disjoint splits out of the configured sources."""

import tempfile
from pathlib import Path

from colocate import instructions
from colocate.provenance import Job

with Job(__doc__, inputs="data*", outputs="train validate test") as job:
    with tempfile.TemporaryDirectory(dir=job.final["train"].parent) as folder:
        instructions.build_mixture(job.settings["sources"], job.settings["seed"], Path(folder))
        job.collect(Path(folder), {split: f"{split}.jsonl" for split in ("train", "validate", "test")})
