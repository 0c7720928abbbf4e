"""Look for 13-word runs of the training data in the pairs and the benchmarks: counts for each, and some examples."""

from colocate import contamination, files
from colocate.provenance import Job

with Job(__doc__, inputs="splits* references*", outputs="table counts") as job:
    references = contamination.read_references(job.input.references, job.settings["benchmarks"])
    grams = contamination.Grams(references, private=contamination.private(job.settings["benchmarks"]))
    found, looked_at = contamination.scan({path.stem: path for path in job.input.splits}, grams)
    files.write_csv(job.out.table, contamination.examples(found))
    files.write_csv(job.out.counts, contamination.counts(found, looked_at, grams.sizes))
