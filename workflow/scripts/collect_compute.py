"""Join all run records: what each job used and cost, the sums against the forecast, software and machines."""

from colocate import compute, files
from colocate.provenance import Job

with Job(__doc__, inputs="records*", outputs="table forecast environment") as job:
    chosen = job.settings
    table = compute.collect(job.input.records, chosen["prices"])
    files.write_csv(job.out.table, table)
    files.write_json(job.out.environment, compute.environment(job.input.records))
    files.write_csv(job.out.forecast, compute.forecast(table, chosen["expected"], chosen["stages"], chosen["prices"]))
