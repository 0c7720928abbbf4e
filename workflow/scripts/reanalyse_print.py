"""Work out what the two studies' printed numbers can show, and how many items and seeds each claim would need."""

from colocate import files
from colocate.provenance import Job
from colocate.statistics import claims, power, reanalysis

with Job(__doc__, inputs="numbers claims", outputs="table needed") as job:
    files.write_csv(job.out.table, reanalysis.reanalyse(job.input.numbers))
    files.write_csv(job.out.needed, power.needed(claims.read_claims(job.input.claims)))
