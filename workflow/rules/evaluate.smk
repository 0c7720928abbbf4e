"""Evaluation: one job an arm, seed and benchmark (base once, as seed 0), and the drift of each arm on neutral text."""


rule evaluate_arm:
    input:
        model=model_folder,
        geometry=f"{BASE}/geometry.json",
        manifest=branch(
            lambda w: w.arm == "base", then=[], otherwise=f"{BASE}/adapters/{{arm}}/seed{{seed}}/manifest.json"
        ),
        # An identical retrain changes no manifest: then nothing is evaluated again.
        adapter=branch(
            lambda w: w.arm == "base",
            then=[],
            otherwise=ancient(f"{BASE}/adapters/{{arm}}/seed{{seed}}/adapter_model.safetensors"),
        ),
        data=lambda w: benchmark_data(w.benchmark),
    output:
        summary=f"{BASE}/evaluations/{{arm}}/seed{{seed}}/{{benchmark}}.json",
        per_item=f"{BASE}/evaluations/{{arm}}/seed{{seed}}/{{benchmark}}.items.parquet",
        run=f"{BASE}/evaluations/{{arm}}/seed{{seed}}/{{benchmark}}.run.json",
    log:
        f"{LOGS}/evaluate_arm/{{model}}/{{arm}}/seed{{seed}}/{{benchmark}}.log",
    benchmark:
        f"{LOGS}/evaluate_arm/{{model}}/{{arm}}/seed{{seed}}/{{benchmark}}.tsv"
    threads: THREADS
    resources:
        mem_mb=memory("evaluate_arm"),
        runtime=minutes("evaluate_arm"),
        gpu=GPU,
        nodes=1,
    params:
        cfg=lambda w: canonical(evaluation_settings(w)),
        code=code("evaluate_arm"),
        env=env("evaluate_arm"),
    shell:
        command(
            "evaluate_arm",
            "model geometry adapter data",
            "summary per_item run",
            "{wildcards.benchmark} {wildcards.arm} seed {wildcards.seed}",
        )


rule measure_drift:
    input:
        model=model_folder,
        geometry=f"{BASE}/geometry.json",
        manifest=f"{BASE}/adapters/{{arm}}/seed{{seed}}/manifest.json",
        adapter=ancient(f"{BASE}/adapters/{{arm}}/seed{{seed}}/adapter_model.safetensors"),
        texts=STUDY["pairs"]["texts"],
    output:
        neutral_kl=f"{BASE}/evaluations/{{arm}}/seed{{seed}}/neutral_kl.csv",
        run=f"{BASE}/evaluations/{{arm}}/seed{{seed}}/neutral_kl.run.json",
    log:
        f"{LOGS}/measure_drift/{{model}}/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{LOGS}/measure_drift/{{model}}/{{arm}}/seed{{seed}}.tsv"
    threads: THREADS
    resources:
        mem_mb=memory("measure_drift"),
        runtime=minutes("measure_drift"),
        gpu=GPU,
        nodes=1,
    params:
        cfg=lambda w: canonical(where_settings()),
        code=code("measure_drift"),
        env=env("measure_drift"),
    shell:
        command(
            "measure_drift", "model geometry adapter texts", "neutral_kl run", "{wildcards.arm} seed {wildcards.seed}"
        )
