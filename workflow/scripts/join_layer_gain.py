"""Join the gains of all layers and seeds into one layer profile."""

from colocate import files, layer_sets
from colocate.provenance import Job

with Job(__doc__, inputs="gains*", outputs="profile") as job:
    files.write_csv(job.out.profile, layer_sets.gain_profile([files.read_json(path) for path in job.input.gains]))
