"""Section 7: how it was done. Definitions, data, contamination, settings, rules, versions, hardware, and the bill."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import yaml

from colocate import formats as f
from colocate import hub_data
from colocate.figures.style import label
from colocate.files import read_json, sha256
from colocate.profiles import METRICS
from colocate.report.bill import compute_by_rule, forecast, ledger, totals
from colocate.report.table import Table, plain, read

SPLITS = {"train": "trained on", "validate": "choices are made on it", "test": "losses are quoted on it"}


def section(
    results: Path,
    compute: pd.DataFrame,
    config: dict,
    default: dict | None,
    rules: Iterable[str | Path],
    finished: bool = True,
) -> dict:
    """What section 7 shows of the study as a whole."""
    path = results / "environment.json"
    ran = read_json(path) if path.is_file() else {"versions": {}, "machines": []}
    return {
        "definitions": definitions(config),
        "data": data(results, config),
        "contamination": contamination(results / "mixture"),
        "changed": None if default is None else changed(config, default),
        "config": yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100),
        "rules": Table("Rules fixed before the run", ["file", "sha256"], [[str(path), sha256(path)] for path in rules]),
        "versions": versions(ran["versions"]),
        "hardware": hardware(ran["machines"]),
        "seeds": seeds(config),
        "compute": compute_by_rule(compute),
        "ledger": ledger(compute, finished),
        "totals": totals(compute),
        "forecast": forecast(read(results / "forecast.csv")),
    }


def definitions(config: dict) -> Table:
    """Every metric that the selected profiles and arm profiles measure: its formula, meaning and source."""
    select = config.get("select", {})
    entries = config.get("profiles", {})
    names = [entries.get(profile, {}).get("metric") for profile in select.get("profiles", [])]
    names += select.get("arm_profiles", []) + ["layer_gain"] * bool(select.get("layer_gain"))
    used = {name: METRICS[name] for name in dict.fromkeys(names) if name in METRICS}
    rows = [[label(name), metric.formula, metric.meaning, metric.source] for name, metric in used.items()]
    return Table("Layer metrics of this study", ["metric", "$formula", "a high value means that", "source"], rows)


def data(results: Path, config: dict) -> Table:
    """Models, pairs, training data and benchmarks: what each is, where from, and how much of it."""
    select, rows = config.get("select", {}), []
    for model in select.get("models", []):
        path = results / model / "geometry.json"
        geometry = read_json(path) if path.is_file() else {}
        source = geometry.get("source") or config.get("models", {}).get(model, {}).get("source", "unknown")
        rows.append([model, "model", _at(source, geometry), f.NONE, _digest(geometry.get("sha256"))])
        for tuned in config.get("models", {}).get(model, {}).get("released", []):
            manifest = _manifest(results, Path("resources/models") / tuned)
            source = manifest.get("source") or config["models"][tuned]["source"]
            kind = f"released fine-tune of {model}"
            rows.append([tuned, kind, _at(source, manifest), f.NONE, _digest(manifest.get("sha256"))])
    digests = read_json(results / "pairs.json").get("sha256", {}) if (results / "pairs.json").is_file() else {}
    for path, digest in digests.items():
        rows.append([Path(path).name, "pairs and texts", path, _lines(Path(path)), _digest(digest)])
    for name in _hub_data(config):
        manifest = _manifest(results, hub_data.FETCHED / name)
        source = _at(f"hf:{name}", manifest) if manifest else f"hf:{name}, out of a mirror or not there"
        rows.append([name, "hub data set", source, f.NONE, _digest(manifest.get("sha256"))])
    sources = [source.get("dataset") or source.get("path") or source["kind"] for source in _sources(config)]
    for split, words in SPLITS.items():
        path = results / f"mixture/{split}.jsonl"
        if path.is_file():
            digest = _digest(sha256(path))
            rows.append([f"training data, {split}", words, ", ".join(sources) or "unknown", _lines(path), digest])
    for name in select.get("benchmarks", []):
        entry = config.get("benchmarks", {}).get(name, {})
        builtin = entry.get("source", "builtin") == "builtin"
        kind = "mini benchmark, made for this project" if builtin else "published benchmark"
        kind += ", private: no item is shown" if entry.get("private") else ""
        source = f"{entry.get('source', 'builtin')}: {entry.get('task', name)}"
        rows.append([label(name), kind, source, *_evaluated(results, select.get("models", []), name)])
    return Table("Data cards", ["name", "what it is", "source", "#rows", "sha256"], rows)


def _manifest(results: Path, folder: Path) -> dict:
    """manifest.json of a folder of the checkout; empty where it is not there."""
    path = results.parents[1] / folder / hub_data.MANIFEST
    return read_json(path) if path.is_file() else {}


def _at(source: str, manifest: dict) -> str:
    """A source, and the commit of it that was taken, where there is one."""
    return f"{source}, commit {manifest['revision'][:12]}" if manifest.get("revision") else source


def _hub_data(config: dict) -> list[str]:
    """Hub ids of the data sets that selected benchmarks and the mixture come from."""
    names = config.get("select", {}).get("benchmarks", [])
    found = {config.get("benchmarks", {}).get(name, {}).get("source", "builtin") for name in names}
    found |= {source["dataset"] for source in _sources(config) if "dataset" in source}
    return sorted(found - {"builtin"})


def _evaluated(results: Path, models: list[str], benchmark: str) -> list[str]:
    """Number of items and digest of a benchmark's data, as the evaluations of base recorded them."""
    for model in models:
        path = results / model / f"evaluations/base/seed0/{benchmark}.json"
        if path.is_file():
            summary = read_json(path)
            return [f.number(summary.get("n")), _digest(summary.get("data_digest"))]
    return [f.NONE, f.NONE]


def _sources(config: dict) -> list[dict]:
    return config.get("mixture", {}).get("sources", [])


def _digest(value) -> str:
    return f"{value[:12]}…" if value else f.NONE


def _lines(path: Path) -> str:
    if not path.is_file():
        return f.NONE
    with path.open("rb") as file:
        return f.number(sum(1 for line in file if line.strip()))


def contamination(folder: Path) -> dict:
    """How many training rows share a passage with which benchmark, and examples by id; `folder`: the mixture's."""
    counts, examples = (folder / f"contamination{name}.csv" for name in ("_counts", ""))
    return {
        "checked": examples.is_file(),
        "counts": plain("Training rows that share a passage with a reference", read(counts)),
        "table": plain("Examples, by id", read(examples)),
    }


def changed(config: dict, default: dict) -> Table:
    """Every key whose value differs from the default study, with both values."""
    here, there = _flat(config), _flat(default)
    keys = [key for key in {**there, **here} if here.get(key, f.NONE) != there.get(key, f.NONE)]
    rows = [[key, here.get(key, f.NONE), there.get(key, f.NONE)] for key in keys]
    return Table("Settings that differ from the default study", ["key", "here", "by default"], rows)


def _flat(value, key: str = "") -> dict[str, str]:
    """{dotted key: value as text} of a nested dictionary; a list is one value."""
    if not isinstance(value, dict):
        return {key: yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()}
    inner = (_flat(part, f"{key}.{name}".strip(".")) for name, part in value.items())
    return {name: text for part in inner for name, text in part.items()}


def versions(found: dict[str, list[str]]) -> Table:
    """Packages and their versions over all jobs; more than one version of a package is shown as such."""
    rows = [[package, ", ".join(found[package])] for package in sorted(found)]
    return Table("Software of the jobs", ["package", "version"], rows)


def hardware(machines: list[dict]) -> Table:
    """Kinds of machine that jobs ran on: processor, device, number type, threads."""
    rows = []
    for kind in machines:
        card = f" with {kind['gpu_name']}" if kind["gpu_name"] else ""
        name = (kind["host_machine"] or "unknown").replace("_", "-") + card
        rows.append([name, kind["device"], *(f.number(kind[key]) for key in ("dtype", "threads", "jobs"))])
    return Table("Machines of the jobs", ["processor", "device", "number type", "#threads a job", "#jobs"], rows)


def seeds(config: dict) -> str:
    """A sentence on every seed there is."""
    said = []
    if "seeds" in config:
        said.append(f"Training seeds: {', '.join(map(str, config['seeds']))}.")
    for part, words in (("evaluation", "Evaluation, the same for every arm"), ("statistics", "Statistics")):
        if "seed" in config.get(part, {}):
            said.append(f"{words}: {config[part]['seed']}.")
    return " ".join(said)
