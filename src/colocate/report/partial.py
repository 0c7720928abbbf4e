"""Report on a study that is still running, or that failed in part: `python -m colocate.report.partial [STUDY]`.

Reads what is finished (files appear whole or not at all), takes no lock and writes one file,
reports/{study}-partial.html: a run that goes on in the same folder is not disturbed. Bill and figures are made on the
side, from what is there; statistics are not: contrasts of an incomplete study would be read as those of the study. A
table at the top of the page says what is there, what is missing, and what failed with the last error of its log.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import yaml

from colocate import aliases, files, selection
from colocate import config as configuration
from colocate.compute import collect, environment
from colocate.errors import InputError
from colocate.report.table import Table

NAMED = 6  # missing files that the table names; more are counted


def write_partial(study: str, root: str | Path = ".") -> Path:
    """Write the report on what there is of a study in the checkout `root`; returns its path.

    InputError where the study has not begun: its config is the first thing that a run records.
    """
    from colocate import report

    root = Path(root)
    results = root / "results" / study
    config = read_config(results)
    out = root / "reports" / f"{study}-partial.html"
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "results" / study
        _mirror(results, copy)
        models = {model: selection.of_model(config, model) for model in config["select"]["models"]}
        for model, select in models.items():
            (copy / model).mkdir(parents=True, exist_ok=True)
            sources = {name: config["benchmarks"][name]["source"] for name in select["benchmark"]}
            _draw(copy / model, model, select, sources)
        logs = root / "logs" / study
        records = {path: path.relative_to(copy).parts[0] for path in sorted(copy.rglob("*.run.json"))}
        if not (copy / "compute.csv").exists() and records:
            for path in sorted(logs.rglob("*.run.json")):  # RULE.run.json, RULE/MODEL.run.json or below RULE/MODEL
                rule_and_model = path.relative_to(logs).parts[:2]
                records[path] = rule_and_model[1].removesuffix(".run.json") if len(rule_and_model) > 1 else None
            bill = collect(records, config["prices"])
            files.write_csv(copy / "compute.csv", bill.assign(model=list(records.values())))
            files.write_json(copy / "environment.json", environment(records))
        claims, frozen = (root / "data/published" / name for name in ("claims.csv", "specification.yaml"))
        default = root / "config/config.yaml"
        report.write_report(
            copy,
            models,
            out,
            config=config,
            aliases=aliases.of(config),
            claims=claims if claims.is_file() else None,
            frozen=frozen if frozen.is_file() else None,
            default=configuration.complete(yaml.safe_load(default.read_text())) if default.is_file() else None,
            unfinished=progress(config, results, logs),
        )
    return out


def read_config(results: Path) -> dict:
    """The merged config that a run recorded."""
    path = results / "config.yaml"
    if not path.is_file():
        begun = sorted(folder.parent.name for folder in results.parent.glob("*/config.yaml"))
        raise InputError(f"{path}: no such file; studies that have begun here: {', '.join(begun) or 'none'}")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def progress(config: dict, results: Path, logs: Path) -> Table:
    """One row a model and kind of result: how many of how many are there, which are missing, which failed and why."""
    rows = []
    for model in config["select"]["models"]:
        for kind, expected in _expected(config, model).items():
            missing = {name: log for name, path, log in expected if not (results / model / path).is_file()}
            failed = {name: _error(logs / log) for name, log in missing.items() if log}
            failed = {name: why for name, why in failed.items() if why}
            waiting = [name for name in missing if name not in failed]
            words = ", ".join(waiting[:NAMED]) + (f" and {len(waiting) - NAMED} more" * (len(waiting) > NAMED))
            why = "; ".join(f"{name}: {error}" for name, error in failed.items())
            rows.append(
                [
                    f"{model}: {kind}",
                    f"{len(expected) - len(missing)} of {len(expected)}",
                    words or "none",
                    why or "none",
                ]
            )
    return Table("What there is of this study", ["results", "#finished", "still missing", "failed"], rows)


def _expected(config: dict, model: str) -> dict[str, list[tuple[str, str, str]]]:
    """{kind: [(name, its path below results/{study}/{model}, the log of its job below logs/{study}, or nothing)]}."""
    select = selection.of_model(config, model)
    trained = [run for run in select["run"] if not run.startswith("base/")]
    evaluated = [f"{arm}/seed{seed}" for arm, seed in selection.evaluated(config, model)]
    pairs = [(run, benchmark) for run in evaluated for benchmark in select["benchmark"]]
    profiles = config["select"]["profiles"]
    logged = {name: f"profile_layers/{model}/{name}.log" for name in profiles}
    statistics = ("correlations.csv", "contrasts.csv", "claims.csv", "recommendation.json")
    return {
        "layer profiles": [(name, f"profiles/{name}.csv", logged.get(name, "")) for name in select["profile"]],
        "trained arms": [(run, f"adapters/{run}/manifest.json", f"train_arm/{model}/{run}.log") for run in trained],
        "evaluations": [
            (f"{run} {name}", f"evaluations/{run}/{name}.json", f"evaluate_arm/{model}/{run}/{name}.log")
            for run, name in pairs
        ],
        "statistics": [(name.split(".")[0], f"statistics/{name}", "") for name in statistics],
    }


def _error(log: Path) -> str:
    """The last error that a log ends with; nothing where there is none, or its job is being tried again."""
    if not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace")[-20_000:].strip().splitlines()
    return lines[-1].removeprefix("ERROR: ")[:200] if lines and lines[-1].startswith("ERROR: ") else ""


def _mirror(results: Path, copy: Path) -> None:
    """Links to every finished file, in a folder where more can be made."""
    for path in results.rglob("*"):
        inside = path.relative_to(results)
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            link = copy / inside
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())


def _draw(folder: Path, model: str, select: dict, sources: dict[str, str]) -> None:
    """Every figure that has not been drawn, of what there is; one that cannot be drawn yet is left out.

    sources     {benchmark: where it is from}, for the note at a figure's foot
    """
    from colocate import figures, results

    inputs = results.load_inputs(folder, select=select)
    note = figures.note(model, inputs["geometry"], figures.mini(sources))
    for name in figures.FIGURES:
        path = folder / f"figures/{name}.svg"
        if path.exists():
            continue
        try:
            figures.save(figures.draw(name, inputs, note), path)
            files.write_csv(path.with_suffix(".csv"), figures.table(name, inputs))
        except InputError as error:
            path.unlink(missing_ok=True)
            print(f"figure {name}: not yet: {error}", file=sys.stderr)


def latest(root: str | Path = ".") -> str:
    """The study whose config was recorded last. InputError where none has begun."""
    found = sorted(Path(root).glob("results/*/config.yaml"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError("no study has begun here: results/*/config.yaml is recorded when one is run")
    return found[-1].parent.name


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", help="the study's name (default: the one that was run last)")
    try:
        print(f"Open {write_partial(parser.parse_args(argv).study or latest())} in a browser")
    except InputError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
