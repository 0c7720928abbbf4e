"""The report: one self-contained HTML page for the study."""


rule write_report:
    input:
        config=f"{RESULTS}/config.yaml",
        compute=f"{RESULTS}/compute.csv",
        forecast=f"{RESULTS}/forecast.csv",
        across=f"{RESULTS}/across_models.csv",
        across_claims=f"{RESULTS}/across_claims.csv",
        reanalysis=f"{RESULTS}/reanalysis.csv",
        needed=f"{RESULTS}/needed.csv",
        contamination=f"{RESULTS}/mixture/contamination.csv",
        counts=f"{RESULTS}/mixture/contamination_counts.csv",
        default=ancient("config/config.yaml"),  # its values count, not the order of its keys: in the settings
        claims="data/published/claims.csv",
        frozen="data/published/specification.yaml",
        environment=f"{RESULTS}/environment.json",
        templates=TEMPLATES,
        figures=targets("figures"),
        pairs=STUDY["pairs"]["files"],
        results=joined_files(),
    output:
        html=annexed(f"reports/{STUDY['study']}.html", "1. The report", "report", study=STUDY["study"]),
    log:
        f"{LOGS}/write_report.log",
    benchmark:
        f"{LOGS}/write_report.tsv"
    threads: 1
    resources:
        mem_mb=memory("write_report"),
        runtime=minutes("write_report"),
        gpu=0,
    params:
        cfg=canonical(report_settings()),
        code=code("write_report"),
        env=env("write_report"),
    shell:
        command("write_report", "config default claims frozen", "html")


rule describe_run:
    input:
        report=f"reports/{STUDY['study']}.html",
        workflow=workflow_files(),
        data=data_files(),
        environment=f"{RESULTS}/environment.json",
    output:
        crate=f"reports/{STUDY['study']}-crate.zip",
    log:
        f"{LOGS}/describe_run.log",
    benchmark:
        f"{LOGS}/describe_run.tsv"
    threads: 1
    resources:
        mem_mb=memory("describe_run"),
        runtime=minutes("describe_run"),
        gpu=0,
    params:
        cfg=canonical(
            {"results": RESULTS, "models": {model: selection.of_model(STUDY, model) for model in SELECT["models"]}}
        ),
        code=code("describe_run"),
        env=env("describe_run"),
    shell:
        command("describe_run", "report workflow data environment", "crate")
