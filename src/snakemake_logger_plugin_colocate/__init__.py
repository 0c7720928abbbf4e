"""Snakemake logger plugin `colocate`: what a run will do, how far it is, what came out, and why it failed.

Chosen by `logger: colocate` in a profile. Before a run: its jobs in words and roughly how long they take
(colocate.plan). While it runs: one line a finished job, one when a long job starts. At the end: the report and the
first findings; or which job failed, why, its log, and how to go on. Warnings, errors and everything that this module
does not know come through as Snakemake words them, and Snakemake's own log file in .snakemake/log stays as it is.

Snakemake loads logger plugins only in the main process: jobs and SLURM job steps print nothing of this. Records arrive
in order in one thread. Imports are light, since Snakemake loads this on every start.
"""

import contextlib
import logging
import os
import sys

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_colocate.run import Run
from snakemake_logger_plugin_colocate.text import BOLD, FAINT, GREEN, RED, RESET, YELLOW

# What Snakemake says about itself at every start and end; all of it is in its log file.
NOISE = (
    "Assuming unrestricted shared filesystem usage.",
    "Building DAG of jobs...",
    "Using shell: ",
    "Singularity containers: ignored",
    "Conda environments: ignored",
    "Group jobs: inactive",
    "Select jobs to execute...",
    "Removing output files of failed job",
    "Shutting down, this might take some time.",
    "Elapsed time: ",
    "SLURM run ID: ",
    "Cleaning up SLURM log files",
    "Reasons:",
    "This was a dry-run",
    "'sacct' unavailable, using 'squeue'",
)
# Warnings of the SLURM executor that mislead: a cluster that wants an account is noticed at the start of a run
# (colocate.cluster), and one without accounting cannot name the node that failed.
MISLEADING = (
    "No SLURM account given, trying to guess.",
    "No account was given, not able to get a SLURM account via sacct",
    "Unable to guess SLURM account. Trying to proceed without.",
    "Could not retrieve node information for job",
)
NOISY_EVENTS = (
    LogEvent.WORKFLOW_STARTED,
    LogEvent.RESOURCES_INFO,
    LogEvent.JOB_STARTED,
    LogEvent.PROGRESS,
    LogEvent.RULEGRAPH,
)
LEVEL_STYLE = {logging.WARNING: YELLOW, logging.ERROR: RED, logging.CRITICAL: RED}
STYLES = {"head": BOLD, "done": GREEN, "failed": RED, "faint": FAINT, "plain": ""}


class LogHandler(LogHandlerBase):
    """Turns Snakemake's records into lines: `run` knows what has happened, this class decides what is printed."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        from snakemake.logging import DefaultFilter, DefaultFormatter

        common = self.common_settings
        self.stream = sys.stdout if common.stdout else sys.stderr
        self.colour = self._can_colour()
        self.wanted = DefaultFilter(
            common.quiet, common.debug_dag, common.verbose, common.dryrun, common.printshellcmds
        )
        self.standard = DefaultFormatter(common.quiet, common.show_failed_logs)
        self.run = Run(dryrun=common.dryrun, commands=common.printshellcmds)
        self.closed = False

    def _can_colour(self) -> bool:
        if self.common_settings.nocolor or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            return False
        return bool(getattr(self.stream, "isatty", lambda: False)())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._emit(record)
        except BrokenPipeError:  # the reader has left (`snakemake -n | head`); the run goes on without one
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
        except Exception:
            self.handleError(record)

    def _emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        text = str(record.msg)
        lines = self.run.see(event, text, record.__dict__)
        if record.levelno == logging.WARNING and text.startswith(MISLEADING):
            return
        serious = record.levelno >= logging.WARNING
        if not serious and not self.wanted.filter(record):
            return
        if lines is not None and not (self.common_settings.dryrun and self._in_full(event)):
            for style, line in lines:
                self._print(line, STYLES[style])
        elif serious or self.common_settings.verbose or not self._is_noise(event, text):
            said = self.standard.format(record)
            if said and said != "None":
                self._print(said, LEVEL_STYLE.get(record.levelno, ""))

    def _in_full(self, event) -> bool:
        """A dry run with --printshellcmds or --verbose lists its jobs as Snakemake does."""
        settings = self.common_settings
        return event == LogEvent.JOB_INFO and (settings.printshellcmds or settings.verbose)

    def _is_noise(self, event, text: str) -> bool:
        return event in NOISY_EVENTS or (event is None and text.startswith(NOISE))

    def _print(self, text: str, style: str) -> None:
        coloured = f"{style}{text}{RESET}" if style and self.colour else text
        self.stream.write(coloured + "\n")
        self.stream.flush()

    def close(self) -> None:
        """Snakemake's last call, after the last record: the closing words."""
        if not self.closed:
            self.closed = True
            silent = any(str(quiet) == "all" for quiet in self.common_settings.quiet or ()) and self.run.complete
            with contextlib.suppress(OSError, ValueError):  # the stream may be gone
                for style, line in [] if silent else self.run.closing_lines():
                    self._print(line, STYLES[style])
        super().close()
