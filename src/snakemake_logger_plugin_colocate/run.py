"""The state of one run, fed with Snakemake's events, and the lines that each event is worth.

`see` takes one event and returns styled lines [(style, text)]: [] to say nothing, None to let Snakemake's own words
through. Styles: head, done, failed, faint, plain.
"""

import json
import os
import re
import shlex
import shutil
import sys
import textwrap
from pathlib import Path

from snakemake_interface_logger_plugins.common import LogEvent

from colocate import devices, plan, progress_table
from snakemake_logger_plugin_colocate import study, text
from snakemake_logger_plugin_colocate.failures import Failure, failure

LONG = 20.0  # seconds from which the start of a job is worth a line
TARGETS = {"all", "fetch", "profiles", "train", "evaluate", "statistics", "figures", "report"}  # rules without work
NOTHING = "Nothing to be done"
UP_TO_DATE = "Nothing to do: everything is there and up to date."
RESTART = "Trying to restart job "
SUBMITTED = re.compile(r"Job (\d+) has been submitted with SLURM jobid (\S+) ")
FULL_LOG = "Complete log(s): "
ELAPSED = "Elapsed time: "
INTERRUPTED = "Terminating processes on user request"
# The ends of a run that failed. Said again, and better, by the lines of the failed job itself.
LOOK_ABOVE = "Exiting because a job execution failed"
NOT_COMPLETE = "WorkflowError:\nAt least one job did not complete"

Lines = list[tuple[str, str]]


class Run:
    """What is known of a run so far."""

    def __init__(self, dryrun: bool = False, commands: bool = False):
        """`commands`: shell commands are shown too."""
        self.dryrun = dryrun
        self.commands = commands
        self.command = ""
        self.cores = float(os.cpu_count() or 1)
        self.gpus: float | None = None
        self.remote = False
        self.plan: plan.Plan | None = None
        self.remaining: dict[str, int] = {}
        self.total = self.done = 0
        self.jobs: dict[int, dict] = {}  # jobid: rule, words, start, logs
        self.running: set[int] = set()
        self.failed: dict[int, list[Failure]] = {}  # jobid: its failed attempts; none once it has succeeded
        self.repeated = 0  # failed attempts at jobs that succeeded later
        self.endings: list[str] = []  # what Snakemake says of commands that failed
        self.seconds: dict[str, list[float]] = {}  # rule: durations seen in this run
        self.makes_report = False
        self.started: float | None = None
        self.latest = 0.0
        self.nothing_to_do = self.interrupted = self.complete = False
        self.refused = False
        self.full_log = ""

    def see(self, event, message: str, fields: dict) -> Lines | None:
        """Take one record: its event (or None), its message and its other attributes."""
        self.latest = fields.get("created", self.latest)
        seer = {
            LogEvent.WORKFLOW_STARTED: self._workflow_started,
            LogEvent.RESOURCES_INFO: self._resources,
            LogEvent.RUN_INFO: self._run_info,
            LogEvent.JOB_INFO: self._job_info,
            LogEvent.SHELLCMD: self._shell_command,
            LogEvent.JOB_FINISHED: self._job_finished,
            LogEvent.JOB_ERROR: self._job_error,
            LogEvent.ERROR: self._error,
            None: self._message,
        }.get(event)
        return seer(message, fields) if seer else None

    def _workflow_started(self, message: str, fields: dict) -> None:
        self.command = text.command(fields.get("cmd", ""))

    def _resources(self, message: str, fields: dict) -> None:
        if "nodes" in fields:
            self.remote, self.cores = True, float(fields["nodes"])
        elif "cores" in fields:
            self.cores = float(fields["cores"])
        provided = fields.get("provided_resources") or {}
        if provided.get("gpu"):
            self.gpus = float(provided["gpu"])

    def _run_info(self, message: str, fields: dict) -> Lines:
        if self.plan is not None or self.remaining:  # a dry run says it twice
            return []
        stats = {rule: n for rule, n in fields["stats"].items() if rule != "total" and rule not in TARGETS}
        self.remaining = plan.ordered(stats)
        self.total = sum(stats.values())
        self.makes_report = "write_report" in stats
        self.started = self.latest
        if not self.total:  # only a target, whose files are all there
            self.nothing_to_do = True
            return [("head", UP_TO_DATE)]
        config = plan.announced()
        if config:
            self.plan = plan.estimate(stats, config)
            if self.plan.cuda and self.gpus is None and not self.remote:
                self.gpus = float(max(1, len(devices.list_gpus())))
        return self._plan_lines(config)

    def _plan_lines(self, config: dict) -> Lines:
        name = f"Colocate, study {config['study']}: " if config else ""
        width = max(60, min(shutil.get_terminal_size((100, 24)).columns, 120))
        listed = text.counts(self.remaining, width - 2)
        verb = "would run" if self.dryrun else "to run"
        lines = [
            ("head", f"{name}{text.plural(self.total, 'job')} {verb}"),
            *(("plain", f"  {line}") for line in listed),
        ]
        if self.plan is not None and self.plan.jobs:
            lines.append(("plain", f"  {self._cost(config)}"))
        jobs = progress_table.watched()
        if jobs:
            lines += [("plain", f"  {line}") for line in ["", *progress_table.table(jobs, config).splitlines()]]
        return [*lines, ("plain", "")]

    def _cost(self, config: dict) -> str:
        place = "on the cluster, its queue not counted" if self.remote else f"on {text.plural(int(self.cores), 'core')}"
        if self.gpus and self.plan.cuda:
            place += f" and {text.plural(int(self.gpus), 'GPU')}"
        known = len(self.plan.measured & set(self.plan.jobs))
        source = {0: "a rough estimate: nothing has been measured here yet", len(self.plan.jobs): "by earlier runs"}
        said = source.get(known, "partly measured in earlier runs, partly estimated")
        time = f"{text.about(self.plan.wall(self.cores, self.gpus))} {place} ({said})"
        price = self.plan.price(config["prices"], config["threads"])
        shown = f"{price:.2f}" if price >= 0.01 else "under 0.01"
        return f"{time}; {shown} {config['prices']['currency']} at the config's prices"

    def _job_info(self, message: str, fields: dict) -> Lines:
        config = plan.announced()
        hidden = ("model",) if len(config.get("select", {}).get("models", [])) == 1 else ()
        rule, jobid = fields["rule_name"], fields["jobid"]
        words = text.wildcards(dict(fields["wildcards"]), hidden)
        self.jobs[jobid] = {"rule": rule, "words": words, "start": self.latest, "logs": list(fields["log"])}
        if rule in TARGETS:
            return []
        if self.dryrun and (listed := os.environ.get("COLOCATE_JOBS")):  # colocate.bill makes its own list
            with Path(listed).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"rule": rule, "wildcards": dict(fields["wildcards"])}) + "\n")
            return []
        if self.dryrun:
            why = textwrap.shorten(str(fields["reason"]), 160, placeholder=" ...")
            return [("plain", f"  {self._label(jobid)}  reason: {why}")]
        self.running.add(jobid)
        if self.remote and not fields.get("local"):
            return []  # said when SLURM has taken it
        return self._started(jobid, "started")

    def _started(self, jobid: int, verb: str) -> Lines:
        """The line of a job that takes long."""
        seconds = self._seconds_of(self.jobs[jobid]["rule"]) or 0.0
        if seconds < LONG and not self.commands:
            return []
        expected = f" ({text.about(seconds)})" if seconds else ""
        return [("faint", f"{self._count(blank=True)}  {self._label(jobid)}  {verb}{expected}")]

    def _shell_command(self, message: str, fields: dict) -> Lines:
        command = fields.get("shellcmd") or fields.get("cmd")
        return [("faint", f"  {command.strip()}")] if command else []

    def _job_finished(self, message: str, fields: dict) -> Lines:
        jobid = fields["job_id"]
        job = self.jobs.get(jobid)
        if job is None or job["rule"] in TARGETS:
            return []
        rule, took = job["rule"], self.latest - job["start"]
        self.running.discard(jobid)
        self.repeated += len(self.failed.pop(jobid, ()))
        self.seconds.setdefault(rule, []).append(took)
        self.remaining[rule] = max(0, self.remaining.get(rule, 0) - 1)
        self.done += 1
        left = self.seconds_left()
        share = f"{100 * self.done / self.total:.0f} %"
        hint = f"({share}, {text.about(left)} left)" if left else f"({share})"
        return [("done", f"{self._count()}  {self._label(jobid)}  done in {text.duration(took)}   {hint}")]

    def _job_error(self, message: str, fields: dict) -> Lines:
        jobid = fields["jobid"]
        job = self.jobs.setdefault(
            jobid, {"rule": fields["rule_name"], "words": "", "start": self.latest, "logs": list(fields["log"])}
        )
        earlier = self.failed.setdefault(jobid, [])
        endings = "\n".join(said for said in self.endings if str(fields.get("shellcmd") or "\0").strip() in said)
        found = failure(f"{job['rule']}  {job['words']}".rstrip(), len(earlier) + 1, fields, endings)
        earlier.append(found)
        self.running.discard(jobid)
        if self.interrupted:
            return []
        first, *rest = found.block(self.latest - job["start"])
        return [("failed", first), *(("plain", line) for line in rest)]

    def _error(self, message: str, fields: dict) -> Lines | None:
        """A shell command's exit status says less than the block of its job, which follows. Before any job, what the
        workflow refuses is said without Snakemake's frames, and a config file that is no YAML with its line."""
        if self.started is None and (refused := text.refusal(message)):
            self.refused = True
            return [("failed", "Colocate cannot start:"), *(("plain", f"  {line}") for line in refused)]
        if fields.get("exception") == "RuleException" and "CalledProcessError in file" in message:
            self.endings = [*self.endings[-20:], message]
            return []
        return self._message(message, fields)

    def _message(self, message: str, fields: dict) -> Lines | None:
        if message.startswith(NOTHING):
            self.nothing_to_do = True
            return [("head", UP_TO_DATE)]
        if message.startswith(FULL_LOG):
            self.full_log = message.removeprefix(FULL_LOG)
            return []
        if message.startswith(ELAPSED):
            self.complete = True
            return None
        if message.startswith(INTERRUPTED):
            self.interrupted = True
            return None
        if message.startswith(RESTART):
            number = message.removeprefix(RESTART).rstrip(".")
            jobid = int(number) if number.isdigit() else -1
            name = self.failed[jobid][-1].job if jobid in self.failed else message
            return [("plain", f"  again {name}: one more attempt")]
        taken = SUBMITTED.match(message)
        if taken:
            jobid = int(taken.group(1))
            return self._started(jobid, f"submitted, SLURM job {taken.group(2)}") if jobid in self.jobs else []
        if message.startswith(NOT_COMPLETE):
            self.complete = False
        if (self.failed or self.interrupted) and message.startswith((LOOK_ABOVE, NOT_COMPLETE)):
            return []
        return None

    def _seconds_of(self, rule: str) -> float | None:
        """Seconds of one job: as seen in this run, else as planned, else the mean of all that was seen."""
        if rule in self.seconds:
            return sum(self.seconds[rule]) / len(self.seconds[rule])
        if self.plan is not None and rule in self.plan.seconds:
            return self.plan.seconds[rule]
        seen = [value for values in self.seconds.values() for value in values]
        return sum(seen) / len(seen) if seen else None

    def seconds_left(self) -> float | None:
        """Wall time of what is still to do, what is running counted in part; None while nothing is known."""
        seconds = {rule: self._seconds_of(rule) for rule, n in self.remaining.items() if n}
        if any(value is None for value in seconds.values()):
            return None
        remaining = {rule: float(n) for rule, n in self.remaining.items() if n}
        for jobid in self.running:
            job = self.jobs[jobid]
            if job["rule"] in remaining and seconds[job["rule"]] > 0:
                elapsed = (self.latest - job["start"]) / seconds[job["rule"]]
                remaining[job["rule"]] -= min(0.9, elapsed)
        slots = self.plan.slots(self.cores, self.gpus) if self.plan else dict.fromkeys(remaining, self.cores)
        return plan.wall_seconds(remaining, seconds, slots)

    def _count(self, blank: bool = False) -> str:
        width = len(str(self.total))
        return " " * (2 * width + 3) if blank else f"[{self.done:>{width}}/{self.total}]"

    def _label(self, jobid: int) -> str:
        job = self.jobs[jobid]
        width = max((len(rule) for rule in self.remaining), default=0)
        return f"{job['rule']:{width}}  {job['words']}".rstrip()

    def closing_lines(self) -> Lines:
        """The last words: the result, or what failed and how to go on."""
        if self.refused:
            return [("plain", "Nothing has been run. Put this right, and start again: " + self._again())]
        config = plan.announced()
        if self.nothing_to_do:
            return self._report_lines(config)
        if self.dryrun:
            return self._dry_run_lines()
        if self.started is None:
            return []
        if self.failed and not self.interrupted:
            return self._failure_lines()
        if not self.complete:
            head = f"\nNot finished: {self.done} of {text.plural(self.total, 'job')} done."
            return [("failed", head), *self._resume_lines()]
        took = text.duration(self.latest - self.started)
        again = f" {text.plural(self.repeated, 'failed attempt')} repeated with success." if self.repeated else ""
        lines = [("head", f"\nFinished: {text.plural(self.total, 'job')} in {took}.{again}")]
        if self.makes_report:
            lines += self._report_lines(config) + self._finding_lines(config) + self._annex_lines(config)
        elif config:
            lines.append(("plain", "To go on to the report: " + text.without_targets(self._again(), TARGETS)))
        return lines

    def _report_lines(self, config: dict) -> Lines:
        path = study.report(config) if config else None
        return [("head", f"Report: {path}  (opens in any browser, {path.resolve().as_uri()})")] if path else []

    def _finding_lines(self, config: dict) -> Lines:
        lines = []
        for model, said in study.findings(config).items() if config else ():
            lines.append(("plain", f"What it says about {model}:"))
            for i, finding in enumerate(said, 1):
                wrapped = textwrap.wrap(finding, 110, initial_indent=f"  {i}. ", subsequent_indent="     ")
                lines += [("plain", line) for line in wrapped]
        return lines

    def _annex_lines(self, config: dict) -> Lines:
        if not config:
            return []
        folder = ".venv/bin/" * os.environ.get("COLOCATE_COMMAND", "").startswith("make ")  # nothing is activated
        command = text.annex(self.command, f"reports/{config['study']}-provenance.zip")
        return [("plain", f"Where every file came from, as Snakemake's own report: {folder}{command}")]

    def _failure_lines(self) -> Lines:
        n = len(self.failed)
        head = (
            f"\n{text.plural(n, 'job')} failed; {self.done} of {self.total} done, {self.total - self.done - n} not run."
        )
        lines = [("failed", head)]
        attempts = [found for failed in self.failed.values() for found in failed]
        lines += [("plain", line) for found in attempts for line in found.entry()]
        if self.full_log:
            lines.append(("faint", f"  Snakemake's own log: {text.short(self.full_log)}"))
        return [*lines, *self._resume_lines()]

    def _dry_run_lines(self) -> Lines:
        if not self.total:
            return []
        return [("head", f"\nNothing has been run; {text.plural(self.total, 'job')} would be. To run: {self._again()}")]

    def _resume_lines(self) -> Lines:
        kept = "What is finished is kept, and a training goes on from its last checkpoint. To go on: "
        return [("plain", kept + self._again())]

    def _again(self) -> str:
        """The command that goes on, or does what a dry run showed."""
        return os.environ.get("COLOCATE_COMMAND") or self.command or text.command(shlex.join(sys.argv))
