"""Models: download, convert to a plain local folder, record the geometry and the precision that this study uses."""


rule fetch_model:
    output:
        download="resources/downloads/{model}/download.json",
        run="resources/downloads/{model}.run.json",
    log:
        f"{LOGS}/fetch_model/{{model}}.log",
    benchmark:
        f"{LOGS}/fetch_model/{{model}}.tsv"
    threads: 1
    resources:
        mem_mb=memory("fetch_model"),
        runtime=minutes("fetch_model"),
        gpu=0,
    params:
        cfg=lambda w: canonical({key: STUDY["models"][w.model].get(key) for key in ("source", "sha256", "revision")}),
        code=code("fetch_model"),
        env=env("fetch_model"),
    shell:
        command("fetch_model", "", "download run", "{wildcards.model}")


rule prepare_model:
    input:
        download="resources/downloads/{model}/download.json",
    output:
        manifest="resources/models/{model}/manifest.json",
        run="resources/models/{model}.run.json",
    log:
        f"{LOGS}/prepare_model/{{model}}.log",
    benchmark:
        f"{LOGS}/prepare_model/{{model}}.tsv"
    threads: 1
    resources:
        mem_mb=memory("prepare_model"),
        runtime=minutes("prepare_model"),
        gpu=0,
    params:
        cfg=lambda w: canonical({key: STUDY["models"][w.model][key] for key in ("source", "geometry")}),
        code=code("prepare_model"),
        env=env("prepare_model"),
    shell:
        command("prepare_model", "download", "manifest run", "{wildcards.model}")


rule describe_model:
    input:
        model="resources/models/{model}/manifest.json",
    output:
        geometry=f"{BASE}/geometry.json",
        run=f"{BASE}/geometry.run.json",
    log:
        f"{LOGS}/describe_model/{{model}}.log",
    benchmark:
        f"{LOGS}/describe_model/{{model}}.tsv"
    threads: 1
    resources:
        mem_mb=memory("describe_model"),
        runtime=minutes("describe_model"),
        gpu=GPU,
        nodes=1,
    params:
        cfg=lambda w: canonical(
            {key: STUDY["models"][w.model][key] for key in ("dtype", "geometry")} | {"device": STUDY["device"]}
        ),
        code=code("describe_model"),
        env=env("describe_model"),
    shell:
        # Written by the driver, and no input: other arms do not change what the model is.
        command("describe_model", "model", "geometry run", "{wildcards.model}") + f" --arms {arm_checks.FILE}"
