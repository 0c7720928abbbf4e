"""Make the training mixture: three disjoint splits out of the configured sources."""

import shutil
import tempfile
from pathlib import Path

from colocate import instructions
from colocate.provenance import Job

with Job(__doc__, inputs="data*", outputs="train validate test") as job, tempfile.TemporaryDirectory() as folder:
    instructions.build_mixture(job.settings["sources"], job.settings["seed"], Path(folder))
    for split in ("train", "validate", "test"):
        shutil.copyfile(Path(folder) / f"{split}.jsonl", job.private[split])
