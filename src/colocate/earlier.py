"""Seconds of one job, from the config and from what earlier runs of the study took.

    seconds = modelled * sum of measured / sum of modelled

with the sums over finished jobs like it: those of its rule, model and kind (KINDS); else of its rule and model; else of
its rule; where there are none, as modelled (colocate.plan). What was measured are Snakemake's benchmark tables,
`logs/{study}/{rule}/{model}/.../*.tsv`, column `s`.

Only light imports: the workflow asks when it is parsed.
"""

from collections.abc import Iterator
from pathlib import Path

from colocate import plan
from colocate.prices import hourly

# By what else than the model jobs of a rule differ in length: the wildcard, and its place in a table's path.
KINDS = {
    "profile_layers": ("profile", -1),
    "profile_twin": ("profile", -1),
    "tune_arm": ("arm", 1),
    "train_arm": ("arm", 1),
    "evaluate_arm": ("benchmark", -1),
}


class Earlier:
    """What the jobs of a study's merged config take; `logs`: the folder of its earlier runs."""

    def __init__(self, config: dict, logs: Path = Path("logs")):
        self.config, self.device, self.logs = config, plan.device_of(config), logs / config["study"]
        self._modelled: dict[tuple, float] = {}
        self._sums: dict[tuple, tuple[float, float]] = {}  # (measured, modelled) of a rule's, model's, kind's jobs
        self._read: set[str] = set()

    def seconds(self, rule: str, job: dict) -> float:
        """Of one job; `job`: its wildcards. What they leave open is the mean over the selection."""
        self._learn(rule)
        like = _like(rule, job)
        measured, modelled = next((self._sums[key] for key in reversed(like) if key in self._sums), (1.0, 1.0))
        return self._model(rule, job) * measured / modelled

    def costs(self) -> dict[str, dict[str, dict[str, float]]]:
        """{rule: {model: {kind: cost of one job}}} of rules that run a model, in the config's currency.

        Kind "" is the most that any job of that rule and model costs; kinds that cost as much are not listed.
        """
        on_gpu, chosen = self.device == "cuda", self.config["select"]
        price = hourly(self.config["prices"], on_gpu, self.config["threads"]) / 3600
        names = {wildcard: chosen[f"{wildcard}s"] for wildcard, _ in KINDS.values()}
        found: dict[str, dict] = {}
        for rule in plan.MODEL_RULES:
            wildcard, _ = KINDS.get(rule, ("", 0))
            for model in chosen["models"]:
                jobs = {name: {"model": model, wildcard: name} for name in names.get(wildcard, [])}
                each = {name: price * self.seconds(rule, job) for name, job in (jobs or {"": {"model": model}}).items()}
                most = max(each.values())
                found.setdefault(rule, {})[model] = {"": most} | {n: cost for n, cost in each.items() if cost < most}
        return found

    def _model(self, rule: str, job: dict) -> float:
        key = (rule, *sorted((name, value) for name, value in job.items() if name in ("model", "benchmark", "profile")))
        if key not in self._modelled:
            self._modelled[key] = plan.modelled_seconds(rule, self.config, self.device, job)
        return self._modelled[key]

    def _learn(self, rule: str) -> None:
        if rule in self._read:
            return
        self._read.add(rule)
        for job, seconds in self._measured(rule):
            modelled = self._model(rule, job)
            for key in _like(rule, job):
                before = self._sums.get(key, (0.0, 0.0))
                self._sums[key] = (before[0] + seconds, before[1] + modelled)

    def _measured(self, rule: str) -> Iterator[tuple[dict, float]]:
        """(wildcards as far as they matter, seconds) of finished jobs whose model and kind are still there."""
        wildcard, place = KINDS.get(rule, ("", 0))
        for path in [*(self.logs / rule).rglob("*.tsv"), *self.logs.glob(f"{rule}.tsv")]:
            parts = path.relative_to(self.logs / rule).with_suffix("").parts if path.parent != self.logs else ()
            job = {"model": parts[0]} if parts and parts[0] in self.config["models"] else {}
            if wildcard and len(parts) > 1 and parts[place] in self.config[f"{wildcard}s"]:
                job[wildcard] = parts[place]
            if rule not in plan.MODEL_RULES or (job and (not wildcard or wildcard in job)):
                yield from ((job, seconds) for seconds in plan.table_seconds(path))


def _like(rule: str, job: dict) -> list[tuple]:
    """Keys of the jobs that a job is like, the closest last."""
    wildcard, _ = KINDS.get(rule, ("", 0))
    keys = (rule,), (rule, job.get("model")), (rule, job.get("model"), job.get(wildcard))
    return [key for key in keys if None not in key]
