"""Read a finished study's files into plain tables: the one place that knows where each stage leaves its results.

`LAYOUT` names every kind of result by its path below `results/{study}/{model}/`; the braces are the workflow's
wildcards. `load_inputs` reads the kinds asked for into one dict, the input of `colocate.figures` and
`colocate.report`:

    geometry, recommendation, specification_curve      dict, {} where the file is absent
    findings                        [sentence], [] where the file is absent
    profiles, variants, layer_sets  {name: table or dict}
    arms                            [resolved arm, with its `arm` and `seed`], by arm and seed
    evaluations                     arm, seed, benchmark, accuracy, stderr, n, status, and what else the summaries hold
    alphas, temperatures, training_logs, arm_profiles
                                    arm, seed (metric), and the columns of each file
    correlations, specifications, selection, stability, domains, twins, regret, contrasts, forgetting, claims, power
                                    the tables, empty where the file is absent
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from colocate.errors import InputError
from colocate.files import read_json

LAYOUT = {
    "geometry": "geometry.json",
    "profiles": "profiles/{profile}.csv",
    "variants": "profiles/{profile}.variants.parquet",
    "layer_sets": "layer_sets/{layer_set}.json",
    "arms": "arms/{arm}/seed{seed}.json",
    "alphas": "adapters/{arm}/seed{seed}/alphas.csv",
    "temperatures": "adapters/{arm}/seed{seed}/temperatures.csv",
    "training_logs": "adapters/{arm}/seed{seed}/training_log.csv",
    "arm_profiles": "arm_profiles/{arm}/seed{seed}/{metric}.csv",
    "evaluations": "evaluations/{arm}/seed{seed}/{benchmark}.json",
    "correlations": "statistics/correlations.csv",
    "specifications": "statistics/specifications.csv",
    "specification_curve": "statistics/specification_curve.json",
    "selection": "statistics/selection.csv",
    "stability": "statistics/stability.csv",
    "domains": "statistics/domains.csv",
    "twins": "statistics/twins.csv",
    "regret": "statistics/regret.csv",
    "contrasts": "statistics/contrasts.csv",
    "forgetting": "statistics/forgetting.csv",
    "claims": "statistics/claims.csv",
    "power": "statistics/power.csv",
    "recommendation": "statistics/recommendation.json",
    "findings": "statistics/findings.json",
}

COLUMNS = {
    "evaluations": ["arm", "seed", "benchmark", "accuracy", "stderr", "n", "status"],
    "alphas": ["arm", "seed", "layer", "kv_head", "alpha"],
    "temperatures": ["arm", "seed", "layer", "kv_head", "temperature"],
    "training_logs": ["arm", "seed", "step", "split", "loss", "tokens"],
    "arm_profiles": ["arm", "seed", "metric", "layer", "value"],
}


def find(folder: Path, kind: str, select: dict[str, Iterable] | None = None) -> Iterator[tuple[dict[str, str], Path]]:
    """Files of one kind below `folder`, in order, each with its wildcards; `select` {wildcard: allowed values} leaves
    others out.

    Beside wildcards, `select` may have `run`: the `{arm}/seed{seed}` to read. A name holds no dot, so that
    `mini_arc.run.json` is never read as the benchmark `mini_arc.run`. Seeds sort as numbers.
    """
    pattern = LAYOUT[kind]
    match_path = re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[A-Za-z0-9_-]+)", re.escape(pattern))).fullmatch
    allowed = {key: {str(value) for value in values} for key, values in (select or {}).items()}
    found = []
    for path in Path(folder).glob(re.sub(r"\{\w+\}", "*", pattern)):
        match = match_path(path.relative_to(folder).as_posix())
        if match is None:
            continue
        wildcards = match.groupdict()
        keys = wildcards | ({"run": "{arm}/seed{seed}".format(**wildcards)} if "seed" in wildcards else {})
        if all(value in allowed.get(key, {value}) for key, value in keys.items()):
            found.append((wildcards, path))
    yield from sorted(
        found, key=lambda item: [value.zfill(9) if value.isdigit() else value for value in item[0].values()]
    )


def load_inputs(
    folder: str | Path, kinds: Iterable[str] = tuple(LAYOUT), select: dict[str, Iterable] | None = None
) -> dict:
    """Results of one model: {kind: value} for the `kinds` asked for, in the forms of the module's docstring.

    `select` limits each wildcard (`profile`, `layer_set`, `arm`, `seed`, `benchmark`) to what this study runs, so
    that files left by an earlier selection stay out; a dict of profiles or arms also keeps the order given there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of results; expected results/<study>/<model>")
    return {kind: _read(folder, kind, select or {}) for kind in kinds}


def _read(folder: Path, kind: str, select: dict[str, Iterable]):
    import pandas as pd

    files = list(find(folder, kind, select))
    if LAYOUT[kind].endswith(".json") and "{" not in LAYOUT[kind]:
        return read_json(files[0][1]) if files else [] if kind == "findings" else {}
    if LAYOUT[kind].startswith("statistics/"):
        return _csv(files[0][1]) if files else pd.DataFrame()
    if kind in ("profiles", "variants", "layer_sets"):
        reader = {"profiles": _csv, "variants": pd.read_parquet, "layer_sets": read_json}[kind]
        wildcard = "layer_set" if kind == "layer_sets" else "profile"
        table = {wildcards[wildcard]: reader(path) for wildcards, path in files}
        order = [name for name in select.get(wildcard, sorted(table)) if name in table]
        return {name: table[name] for name in order}
    if kind == "arms":
        arms = [read_json(path) | _names(wildcards) for wildcards, path in files]
        return sorted(arms, key=lambda arm: (_place(arm["arm"], select.get("arm")), arm["seed"]))
    if kind == "evaluations":
        table = pd.DataFrame([read_json(path) | _names(wildcards) for wildcards, path in files])
    else:
        parts = [_csv(path).assign(**_names(wildcards)) for wildcards, path in files]
        parts = [part for part in parts if len(part)]  # an arm without RoPE scales leaves a header alone
        table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    missing = [column for column in COLUMNS[kind] if column not in table]
    table = table.assign(**dict.fromkeys(missing))
    table = table[COLUMNS[kind] + [column for column in table if column not in COLUMNS[kind]]]
    return _ordered(table, select)


def _names(wildcards: dict[str, str]) -> dict:
    return {name: int(value) if name == "seed" else value for name, value in wildcards.items()}


def _ordered(table, select: dict[str, Iterable]):
    """Rows by arm and benchmark in the study's order, then by seed; otherwise as they were."""
    keys = {
        name: table[name].map(lambda value, name=name: _place(value, select.get(name)))
        for name in ("arm", "benchmark")
        if name in table
    }
    order = table.assign(**keys).sort_values([*keys, "seed"], kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _csv(path: Path):
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise InputError(
            f"{path}: not a CSV table with a header ({error}); delete it and run the workflow again"
        ) from None


def _place(name: str, order: Iterable | None) -> tuple[int, str]:
    """Sort key: the place in the study's own order, base first where no order is given, then the alphabet."""
    order = ["base"] if order is None else list(order)
    return (order.index(name) if name in order else len(order), name)


def primary_pair(correlations) -> tuple[str | None, str | None]:
    """Names of the primary sensitivity and RoPE-influence profiles, (None, None) without correlations."""
    rows = correlations[correlations["primary"]] if len(correlations) else correlations
    return (rows["sensitivity"].iloc[0], rows["rope"].iloc[0]) if len(rows) else (None, None)


def chosen_sets(layer_sets: dict[str, dict], correlations) -> dict[str, list[int]]:
    """S and R: the layers that a `top` rule takes from each profile of the primary pair; one that no rule takes is
    left out.
    """
    sets = {}
    for letter, profile in zip("SR", primary_pair(correlations), strict=True):
        for layer_set in layer_sets.values():
            rule = layer_set.get("rule")
            if isinstance(rule, dict) and "top" in rule and rule.get("by") == profile:
                sets.setdefault(letter, layer_set["layers"])
    return sets


def reference_contrasts(contrasts) -> tuple[str | None, dict]:
    """The arm that the primary family tests, and its contrasts {outcome: table} on composite accuracy and held-out
    loss.
    """
    if not len(contrasts):
        return None, {}
    primary = contrasts[contrasts["family"] == "primary"]
    reference = (primary if len(primary) else contrasts)["arm_a"].mode().iloc[0]
    rows = contrasts[contrasts["arm_a"] == reference]
    composite = rows[(rows["outcome"] == "accuracy") & (rows["benchmark"] == "composite")]
    outcomes = {"accuracy": composite, "heldout_loss": rows[rows["outcome"] == "heldout_loss"]}
    return reference, {outcome: table for outcome, table in outcomes.items() if len(table)}


def accuracies(evaluations):
    """One row an arm and benchmark: accuracy (mean over seeds), ci_low, ci_high, n (items), by_seed (list), status,
    near_chance (in every seed: colocate.evaluation.chance).

    The interval is Wilson's 95 % (1927) at the mean accuracy: it stays open at 0 and 1, where a standard error is 0.
    Its n is the effective number of items, p (1 - p) / stderr^2 (Korn & Graubard 1998), which is smaller than n where
    items come in clusters, and the number of clusters (`groups`) where stderr is 0. It holds no seed variance.
    """
    import pandas as pd

    rows = []
    for (arm, benchmark), part in evaluations.groupby(["arm", "benchmark"], sort=False):
        done = part[part["accuracy"].notna()]
        values = done["accuracy"].astype(float)
        n, p, nan = part["n"].astype(float).max(), values.mean(), float("nan")
        row = {"arm": arm, "benchmark": benchmark, "n": n, "by_seed": values.tolist(), "accuracy": p}
        row["ci_low"], row["ci_high"] = wilson(p, _effective(done, n, p)) if len(done) else (nan, nan)
        row["status"] = "ok" if len(done) else str(part["status"].iloc[0])
        row["near_chance"] = len(done) > 0 and "near_chance" in done and bool((done["near_chance"] == True).all())  # noqa: E712
        rows.append(row)
    columns = ["arm", "benchmark", "accuracy", "ci_low", "ci_high", "n", "by_seed", "status", "near_chance"]
    return pd.DataFrame(rows, columns=columns)


def _effective(done, n: float, p: float) -> float:
    """Number of independent items that n items in clusters are worth."""
    stderr = done["stderr"].astype(float).mean()
    if 0 < p < 1 and stderr > 0:
        return min(n, p * (1 - p) / stderr**2)
    clusters = float(done["groups"].iloc[0] or 0) if "groups" in done else 0.0
    return min(n, clusters) if clusters > 0 else n


def wilson(p: float, n: float, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion p over n trials."""
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return centre - half, centre + half


def run_of(path: str | Path) -> tuple[str, int]:
    """(arm, seed) of a file below `.../{arm}/seed{seed}/`."""
    folder = Path(path).parent
    return folder.parent.name, int(folder.name.removeprefix("seed"))


def by_run(paths: Iterable[str | Path], read):
    """One table out of the files of several runs: each as `read(path)` gives it, with its arm and seed."""
    import pandas as pd

    parts = [read(path).assign(arm=run_of(path)[0], seed=run_of(path)[1]) for path in paths]
    parts = [part for part in parts if len(part)] or parts[:1]  # an arm without RoPE scales leaves a header alone
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["arm", "seed"])
