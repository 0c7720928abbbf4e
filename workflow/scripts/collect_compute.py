"""Join all run records into one table: what each job used, and what it cost."""

from colocate import compute, files
from colocate.provenance import Job

with Job(__doc__, inputs="records*", outputs="table") as job:
    files.write_csv(job.out.table, compute.collect(job.input.records, job.settings["prices"]))
