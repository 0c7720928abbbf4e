"""Colocate: which layers decide correctness, where rotary position encoding acts, and which layers to fine-tune."""

from snakemake.utils import min_version

min_version("9.0")


configfile: "config/config.yaml"


container: "envs/colocate.sif"


report: "workflow/report/annex.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/files.smk"
include: "workflow/rules/records.smk"
include: "workflow/rules/settings.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/profiles.smk"
include: "workflow/rules/arms.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/statistics.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"


localrules:
    all,
    fetch,
    profiles,
    train,
    evaluate,
    statistics,
    figures,
    report,
    fetch_model,
    fetch_benchmark,
    fetch_mixture,
    check_pairs,
    check_tokens,
    check_contamination,
    record_config,
    select_layers,
    resolve_arm,
    score_metrics,
    contrast_arms,
    compare_base,
    judge_claims,
    recommend_layers,
    compare_models,
    reanalyse_print,
    collect_compute,
    draw_figure,
    write_report,
    describe_run,


rule all:
    default_target: True
    input:
        targets("profiles", "train", "evaluate", "statistics", "figures", "report"),


rule fetch:
    input:
        targets("fetch"),


rule profiles:
    input:
        targets("profiles"),


rule train:
    input:
        targets("train"),


rule evaluate:
    input:
        targets("evaluate"),


rule statistics:
    input:
        targets("statistics"),


rule figures:
    input:
        targets("figures"),


rule report:
    input:
        targets("report"),
