"""Join the run records of all jobs: what each used and cost, the sums against the forecast, software and machines."""

from colocate import compute, files
from colocate.provenance import Job

with Job(__doc__, inputs="records*", outputs="table forecast environment") as job:
    chosen = job.settings
    others = compute.undeclared(chosen["others"], chosen["logs"])
    table = compute.collect(job.input.records, chosen["prices"], others)
    files.write_csv(job.out.table, table)
    found = [*job.input.records, *(path for path in others if path.is_file())]
    files.write_json(job.out.environment, compute.environment(found))
    files.write_csv(job.out.forecast, compute.forecast(table, chosen["expected"], chosen["stages"], chosen["prices"]))
