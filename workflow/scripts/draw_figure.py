"""Draw one figure of a model's results as SVG and PDF, and write the numbers it shows as CSV."""

from colocate import figures, files, results
from colocate.provenance import Job

with Job(__doc__, outputs="svg pdf csv") as job:
    settings = job.settings
    name = settings["figure"]
    inputs = results.load_inputs(settings["results"], {*figures.FIGURES[name].needs, "geometry"}, settings["select"])
    drawn = figures.draw(name, inputs, figures.note(settings["model"], inputs["geometry"], settings["mini"]))
    figures.save(drawn, job.out.svg)
    figures.save(drawn, job.out.pdf)
    files.write_csv(job.out.csv, figures.table(name, inputs))
