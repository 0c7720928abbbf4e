"""Look for 13-word runs of the training data in the pairs and the benchmarks."""

from colocate import files, instructions
from colocate.provenance import Job

with Job(__doc__, inputs="splits* references*", outputs="table") as job:
    references = {str(path): instructions.reference_texts(path) for path in job.input.references}
    found = instructions.contamination({path.stem: path for path in job.input.splits}, references)
    files.write_csv(job.out.table, found)
