"""Join the trainings of all layers and seeds into one profile of layer gain."""

from colocate import files, gain
from colocate.provenance import Job

with Job(__doc__, inputs="gains*", outputs="profile") as job:
    records = [files.read_json(path) for path in job.input.gains]
    files.write_csv(job.out.profile, gain.gain_profile(job.settings["kind"], records))
