"""A run as a Workflow Run RO-Crate: one zip that says what was run on what, with which software, and what came out.

Profile: Workflow Run Crate 0.5 (https://w3id.org/ro/wfrun/workflow/0.5) on RO-Crate. The main entity is the Snakefile;
one CreateAction is the run: its `object` are the inputs, its `result` the outputs, `startTime` and `endTime` those of
the first and last job. The workflow, the project's own data and the tables of the results come along; training data
and answers item by item are named with their sha256 and size alone, since they may be large or not the project's to
pass on. The manifest of an adapter holds the digests of its files. Who ran it is not known, and left out.
"""

import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

from colocate.errors import InputError
from colocate.figures import FIGURES
from colocate.files import sha256
from colocate.results import LAYOUT, find

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
}
LICENCE = "https://spdx.org/licenses/Apache-2.0"
KINDS = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".yaml": "application/yaml",
    ".smk": "text/x-python",
    ".py": "text/x-python",
    ".md": "text/markdown",
    ".rst": "text/x-rst",
    ".parquet": "application/vnd.apache.parquet",
    "": "text/plain",
}
OURS = "data"  # the folder of the project's own data
NAMED_ONLY = (".jsonl", ".parquet")  # elsewhere: training data, made pairs, answers
VERSION = "1.1"  # the one that the profile is written for
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
RUN = "#run"


def describe(
    out: str | Path,
    study: str,
    *,
    workflow: Iterable[str | Path],
    inputs: Iterable[str | Path],
    outputs: Iterable[str | Path],
    environment: dict,
) -> None:
    """Write the crate of a study to the zip `out`.

    workflow    the Snakefile first, then the rules, scripts and profiles it is made of
    inputs      the config and the data that the run read
    outputs     what it wrote, the report first
    environment versions of the software, begin and end of the run (`colocate.compute.environment`)

    All paths are relative to the checkout, and keep their names in the crate. InputError for one that is not.
    """
    from rocrate.rocrate import ROCrate

    workflow, inputs, outputs = (_unique(paths) for paths in (workflow, inputs, outputs))
    start, end = environment["begin"], environment["end"]
    crate = ROCrate(version=VERSION)
    crate.metadata.extra_contexts.append(TERMS)
    crate.name = f"Colocate: the run of study {study}"
    crate.description = (
        "Which layers of a language model decide whether an answer is right, where rotary position encoding has most "
        "leverage, and which layers to adapt: inputs, workflow, results and report of one run."
    )
    crate.license = crate.add(_context(crate, LICENCE, "CreativeWork", "Apache License 2.0"))
    crate.datePublished = end
    main = crate.add_workflow(
        workflow[0],
        workflow[0].as_posix(),
        main=True,
        lang="snakemake",
        lang_version=importlib.metadata.version("snakemake"),
        properties={"name": "Colocate", "license": {"@id": LICENCE}} | _facts(workflow[0]),
    )
    crate.root_dataset.append_to("conformsTo", [_profile(crate, address) for address in PROFILES])
    main["hasPart"] = [_add(crate, path) for path in workflow[1:]]
    action = crate.add_action(
        main,
        RUN,
        object=[_add(crate, path) for path in inputs],
        result=[_add(crate, path) for path in outputs],
        properties={"name": f"Run of study {study}", "startTime": start, "endTime": end}
        | {"actionStatus": "http://schema.org/CompletedActionStatus"},
    )
    crate.root_dataset.append_to("mentions", action)
    main["softwareRequirements"] = [
        _software(crate, name, versions) for name, versions in sorted(environment["versions"].items())
    ]
    crate.write_zip(out)


def outputs(results: Path, models: dict[str, dict]) -> list[Path]:
    """Files that a study wrote; `results`: results/{study}, `models`: {model: {wildcard: names selected}}."""
    found = [path for path in results.glob("*.*") if path.name != "config.yaml"]  # an input
    found += results.glob("mixture/*.jsonl")
    for model, select in models.items():
        folder = results / model
        for kind in LAYOUT:
            found += [path for _, path in find(folder, kind, select)]
        for run in select["run"]:
            patterns = (f"evaluations/{run}/{name}.items.parquet" for name in select["benchmark"])
            ours = (f"evaluations/{run}/neutral_kl.csv", f"adapters/{run}/manifest.json", *patterns)
            found += [path for path in map(folder.joinpath, ours) if path.is_file()]
        found += [path for path in (folder / f"figures/{name}.svg" for name in FIGURES) if path.is_file()]
    return sorted(found)


def _unique(paths: Iterable[str | Path]) -> list[Path]:
    found = list(dict.fromkeys(map(Path, paths)))
    for path in found:
        if path.is_absolute() or ".." in path.parts:
            raise InputError(f"{path}: not a path inside the checkout, which a crate could name")
        if not path.is_file():
            raise InputError(f"{path}: no such file; run the workflow to its end first")
    return found


def _add(crate, path: Path):
    """The entity of a file: a part of the crate, or the name of one that stayed outside."""
    if _included(path):
        return crate.get(path.as_posix()) or crate.add_file(path, path.as_posix(), properties=_facts(path))
    known = crate.get(f"#{path.as_posix()}")
    return known or crate.add(_context(crate, f"#{path.as_posix()}", "MediaObject", **_facts(path)))


def _included(path: Path) -> bool:
    return path.parts[0] == OURS or path.suffix not in NAMED_ONLY


def _facts(path: Path) -> dict:
    kind = KINDS.get(path.suffix, "application/octet-stream")
    facts = {"name": path.name, "sha256": sha256(path), "contentSize": str(path.stat().st_size), "encodingFormat": kind}
    if not _included(path):
        facts["description"] = "Not in this crate: named with its sha256 and size."
    return facts


def _context(crate, address: str, kind, name: str, **properties: str):
    from rocrate.model.contextentity import ContextEntity

    return ContextEntity(crate, address, properties={"@type": kind, "name": name} | properties)


def _profile(crate, address: str):
    name, version = PROFILES[address]
    return crate.add(_context(crate, address, ["CreativeWork", "Profile"], name, version=version))


def _software(crate, name: str, versions: list[str]):
    text = ", ".join(versions)
    return crate.add(_context(crate, f"#software-{name}", "SoftwareApplication", name, softwareVersion=text))
