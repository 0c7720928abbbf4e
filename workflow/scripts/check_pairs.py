"""Check pairs, paraphrases and neutral texts, row by row, before any job uses them."""

from colocate import files, pairs
from colocate.errors import InputError
from colocate.provenance import Job

with Job(__doc__, inputs="pairs* paraphrases texts", outputs="report") as job:
    problems = pairs.check(job.input.pairs, job.input.paraphrases, job.input.texts)
    if problems:
        raise InputError(f"{len(problems)} bad rows:\n" + "\n".join(problems))
    checked = [*job.input.pairs, job.input.paraphrases, job.input.texts]
    files.write_json(job.out.report, {"sha256": {str(path): files.sha256(path) for path in checked}})
