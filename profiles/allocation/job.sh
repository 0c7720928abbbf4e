#!/bin/bash
# The whole study in one allocation. From the root of the project, with your cluster's partition, account and cards:
#
#   sbatch --partition=gpu --account=mine --gpus=4 --cpus-per-task=16 --mem=200G --time=24:00:00 \
#       profiles/allocation/job.sh --configfile config/config.yaml config/llama31-8b.yaml
#
# What follows job.sh goes to snakemake. Run out of time, it stops with finished work kept: the same command goes on.
#SBATCH --job-name=colocate-allocation
#SBATCH --nodes=1
#SBATCH --output=allocation-%j.log
# Five minutes before the end, so that jobs stop and Snakemake puts its books in order.
#SBATCH --signal=B:INT@300
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/../..}"

# The cards that SLURM gave to this allocation, as SLURM names them; jobs lock one each.
export COLOCATE_ALLOCATION=1
cards=$(tr -cd ',' <<<"${CUDA_VISIBLE_DEVICES:?this allocation has no GPU: ask for some with sbatch --gpus=N}" | wc -c)
cards=$(((cards + 1) * ${COLOCATE_GPU_SHARE:-1}))

# The last lines say how to go on: with what was asked for, as far as SLURM tells (there is no variable without the option).
asked="${SLURM_JOB_PARTITION:+ --partition=$SLURM_JOB_PARTITION}${SLURM_JOB_ACCOUNT:+ --account=$SLURM_JOB_ACCOUNT}"
asked+="${SLURM_GPUS:+ --gpus=$SLURM_GPUS}${SLURM_CPUS_PER_TASK:+ --cpus-per-task=$SLURM_CPUS_PER_TASK}"
asked+="${SLURM_MEM_PER_NODE:+ --mem=${SLURM_MEM_PER_NODE}M}"
if [ -n "${SLURM_JOB_END_TIME:-}" ]; then asked+=" --time=$(((SLURM_JOB_END_TIME - SLURM_JOB_START_TIME) / 60))"; fi
export PATH="$PWD/.venv/bin:$PATH" COLOCATE_COMMAND="sbatch$asked profiles/allocation/job.sh${*:+ ${*@Q}}"
trap '[ -n "${!:-}" ] || exit 130; kill -INT $! 2>/dev/null' INT TERM
# With job control, or bash starts what runs in the background with SIGINT ignored.
set -m
snakemake --profile profiles/allocation --resources "gpu=$cards" "$@" &
driver=$!
# A signal ends `wait` early: wait until the driver is gone.
while kill -0 $driver 2>/dev/null; do wait $driver && status=0 || status=$?; done
exit "${status:-1}"
