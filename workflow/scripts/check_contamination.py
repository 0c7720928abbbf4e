"""Look for 13-word runs of the training data in the pairs and the benchmarks; a manifest stands for its folder."""

from colocate import contamination, files
from colocate.provenance import Job

with Job(__doc__, inputs="splits* references*", outputs="table") as job:
    places = [path.parent if path.name == "manifest.json" else path for path in job.input.references]
    references = {str(place): contamination.reference_texts(place) for place in places}
    found = contamination.find({path.stem: path for path in job.input.splits}, references)
    files.write_csv(job.out.table, found)
