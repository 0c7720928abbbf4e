"""Join all run records into one table: what each job used, and what it cost; and hold the sums against the forecast."""

from colocate import compute, files
from colocate.provenance import Job

with Job(__doc__, inputs="records*", outputs="table forecast") as job:
    chosen = job.settings
    table = compute.collect(job.input.records, chosen["prices"])
    files.write_csv(job.out.table, table)
    files.write_csv(job.out.forecast, compute.forecast(table, chosen["expected"], chosen["stages"], chosen["prices"]))
