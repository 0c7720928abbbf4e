"""Draw one figure of a model's results as SVG and PDF."""

from colocate import figures, results
from colocate.provenance import Job

with Job(__doc__, outputs="svg pdf") as job:
    settings = job.settings
    needs = figures.FIGURES[settings["figure"]].needs
    drawn = figures.draw(settings["figure"], results.load_inputs(settings["results"], needs, settings["select"]))
    figures.save(drawn, job.out.svg)
    figures.save(drawn, job.out.pdf)
