# `make study` and `make test` do everything: both set up the environment .venv first, when it is missing or out of date.
#
# CORES=4         cores of a study (default: all)
# ARGS="..."      more arguments for snakemake (make study, make suggest) or pytest (make test)
# CONFIG="..."    config files of `make plan` (default: config/config.yaml); GPUS=4 cards at a time; ARGS="--device cuda --all"
# MODEL, DATA     of `make suggest`: a folder, hf:ORG/NAME@COMMIT or a name out of config/config.yaml; instruction data, JSONL
# STUDY, STUDIES  of `make times`, `make report-partial` and `make compare`: names of folders in results/
# PYTHON=...      the Python that makes .venv (3.11 or newer; default: python3)
# EXTRAS="slurm gpu"  what to install on top; found by itself where sbatch or nvidia-smi is on PATH

PYTHON ?= python3
CORES ?= all
ARGS ?=
EXTRAS ?=
CONFIG ?= config/config.yaml
GPUS ?= 1

# A Python that was named must be the environment's; the default one need not.
NAMED = $(if $(filter file,$(origin PYTHON)),,--this-python)

# Jobs find the environment's programs. Not exported to `env`, which must not find its own result as python3.
IN_ENV = PATH="$(CURDIR)/.venv/bin:$$PATH"

# What the last lines of a run say: the same command again, with what was asked for.
AS_ASKED = $(if $(filter-out all,$(CORES)), CORES=$(CORES))$(if $(ARGS), ARGS="$(ARGS)")

.PHONY: help env study plan suggest times report-partial compare test test-slurm lint clean

help:  ## this list
	@echo "Colocate. Results appear in results/, reports in reports/."
	@awk -F ':.*##' '/^[a-z-]+:.*##/ {printf "  make %-14s %s\n", $$1, $$2}' Makefile
	@echo "Variables: CORES=4, ARGS=\"...\", CONFIG=\"...\", PYTHON=python3.12, EXTRAS=\"slurm gpu\" (see the top of the Makefile)"
	@echo "Everything else: source .venv/bin/activate && snakemake --help"

env:  ## set up .venv, or repair it
	@command -v "$(PYTHON)" >/dev/null || { echo "Environment: no $(PYTHON) on PATH; Python 3.11 or newer is needed" >&2; exit 1; }
	@"$(PYTHON)" -B envs/create.py --extras "$(EXTRAS)" $(NAMED) \
		$(if $(filter env,$(MAKECMDGOALS)),--say)

study: export COLOCATE_COMMAND = make study$(AS_ASKED)
study: env  ## run the default study to its report, or what is left of it
	@$(IN_ENV) .venv/bin/snakemake --cores $(CORES) $(ARGS)

plan: env  ## the bill before a run: jobs, hours, money, what claims need (CONFIG, GPUS)
	@$(IN_ENV) .venv/bin/python -m colocate.bill --configfile $(CONFIG) --gpus $(GPUS) $(ARGS)

suggest: export COLOCATE_COMMAND = make suggest MODEL=$(MODEL) DATA=$(DATA)$(AS_ASKED)
suggest: env  ## say which layers of your model to adapt to your data: MODEL=... DATA=my.jsonl
	@$(IN_ENV) .venv/bin/python -m colocate.suggest \
		--model "$(MODEL)" --data "$(DATA)" --cores $(CORES) $(ARGS)

times: env  ## where the minutes of a finished study went, by kind of job (STUDY=..., default: the last one)
	@$(IN_ENV) .venv/bin/python -m colocate.compute $(STUDY)

report-partial: env  ## report on a study that is still running, or failed in part (STUDY=..., default: the last one)
	@$(IN_ENV) .venv/bin/python -m colocate.report.partial $(STUDY)

compare: env  ## one page on several finished studies: STUDIES="a b"
	@$(IN_ENV) .venv/bin/python -m colocate.report.compare $(STUDIES)

test: env  ## run all tests that this machine can run
	@$(IN_ENV) .venv/bin/python -m pytest $(ARGS)

test-slurm: env  ## start a real SLURM on this machine (as root), run studies through it, stop it
	@$(IN_ENV) .venv/bin/python -m pytest -rs --durations=0 --durations-min=5 tests/slurm $(ARGS)

lint: env  ## check style of Python and Snakemake code
	@failed=0; for check in "ruff check ." "ruff format --check ." "snakefmt --check Snakefile workflow" "snakemake --lint"; do \
		echo "$$check"; $(IN_ENV) $$check || failed=1; done; \
	if [ $$failed -eq 0 ]; then echo "Style: clean."; \
	else echo "Style: see above. Most of it is put right by: ruff check --fix . && ruff format . && snakefmt Snakefile workflow"; fi; \
	exit $$failed

clean:  ## remove the environment and caches; results, reports and downloads stay
	rm -rf .venv .pytest_cache .ruff_cache build src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Removed. make study sets .venv up again, and goes on with the results that are there."
