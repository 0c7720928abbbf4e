"""Statistics: correlations of profiles, contrasts of arms, verdicts on the published claims, the recommendation, the bill."""


rule correlate_profiles:
    input:
        profiles=lambda w: profiles_of(w.model),
        per_item=lambda w: profiles_of(w.model, ".items.parquet"),
        variants=lambda w: profiles_of(w.model, ".variants.parquet"),
    output:
        correlations=f"{BASE}/statistics/correlations.csv",
        specifications=f"{BASE}/statistics/specifications.csv",
        run=f"{BASE}/statistics/correlations.run.json",
    log:
        f"{LOGS}/correlate_profiles/{{model}}.log",
    benchmark:
        f"{LOGS}/correlate_profiles/{{model}}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
        gpu=0,
    params:
        cfg=lambda w: canonical(correlation_settings()),
        code=code("correlate_profiles"),
        env=env("correlate_profiles"),
    shell:
        command(
            "correlate_profiles", "profiles per_item variants", "correlations specifications run", "{wildcards.model}"
        )


rule contrast_arms:
    input:
        summaries=lambda w: evaluations_of(w.model, ".json"),
        per_item=lambda w: evaluations_of(w.model, ".items.parquet"),
        heldout=lambda w: adapters_of(w.model, "heldout.parquet"),
    output:
        contrasts=f"{BASE}/statistics/contrasts.csv",
        power=f"{BASE}/statistics/power.csv",
    log:
        f"{LOGS}/contrast_arms/{{model}}.log",
    benchmark:
        f"{LOGS}/contrast_arms/{{model}}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
        gpu=0,
    params:
        cfg=lambda w: canonical(contrast_settings(w)),
        code=code("contrast_arms"),
        env=env("contrast_arms"),
    shell:
        command("contrast_arms", "summaries per_item heldout", "contrasts power", "{wildcards.model}")


rule judge_claims:
    input:
        claims="data/published/claims.csv",
        correlations=f"{BASE}/statistics/correlations.csv",
        contrasts=f"{BASE}/statistics/contrasts.csv",
        pairs=STUDY["pairs"]["files"],
        profiles=lambda w: profiles_of(w.model),
        per_item=lambda w: profiles_of(w.model, ".items.parquet"),
        layer_sets=lambda w: [f"{RESULTS}/{w.model}/layer_sets/{name}.json" for name in selected_sets(w.model)],
        alphas=lambda w: adapters_of(w.model, "alphas.csv"),
        summaries=lambda w: evaluations_of(w.model, ".json"),
        arm_profiles=lambda w: arm_profiles_of(w.model),
    output:
        verdicts=f"{BASE}/statistics/claims.csv",
    log:
        f"{LOGS}/judge_claims/{{model}}.log",
    benchmark:
        f"{LOGS}/judge_claims/{{model}}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=0,
    params:
        cfg=lambda w: canonical(claim_settings(w)),
        code=code("judge_claims"),
        env=env("judge_claims"),
    shell:
        command(
            "judge_claims",
            "claims correlations contrasts pairs profiles per_item layer_sets alphas summaries arm_profiles",
            "verdicts",
            "{wildcards.model}",
        )


rule recommend_layers:
    input:
        geometry=f"{BASE}/geometry.json",
        correlations=f"{BASE}/statistics/correlations.csv",
        contrasts=f"{BASE}/statistics/contrasts.csv",
        claims=f"{BASE}/statistics/claims.csv",
        arms=lambda w: [f"{RESULTS}/{w.model}/arms/{arm}/seed{seed}.json" for arm, seed in runs(w.model, True)],
        heldout=lambda w: adapters_of(w.model, "heldout.parquet"),
    output:
        recommendation=f"{BASE}/statistics/recommendation.json",
        findings=f"{BASE}/statistics/findings.json",
    log:
        f"{LOGS}/recommend_layers/{{model}}.log",
    benchmark:
        f"{LOGS}/recommend_layers/{{model}}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
        gpu=0,
    params:
        cfg=lambda w: canonical({"random_arms": random_arms(w.model)}),
        code=code("recommend_layers"),
        env=env("recommend_layers"),
    shell:
        command(
            "recommend_layers",
            "geometry correlations contrasts claims arms heldout",
            "recommendation findings",
            "{wildcards.model}",
        )


rule compare_models:
    input:
        geometries=per_model(f"{BASE}/geometry.json"),
        correlations=per_model(f"{BASE}/statistics/correlations.csv"),
        contrasts=per_model(f"{BASE}/statistics/contrasts.csv"),
    output:
        table=f"{RESULTS}/across_models.csv",
    log:
        f"{LOGS}/compare_models.log",
    benchmark:
        f"{LOGS}/compare_models.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
        gpu=0,
    params:
        cfg=canonical({"models": SELECT["models"]}),
        code=code("compare_models"),
        env=env("compare_models"),
    shell:
        command("compare_models", "geometries correlations contrasts", "table")


rule record_config:
    output:
        config=f"{RESULTS}/config.yaml",
    log:
        f"{LOGS}/record_config.log",
    benchmark:
        f"{LOGS}/record_config.tsv"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
        gpu=0,
    params:
        cfg=canonical(STUDY),
        code=code("record_config"),
        env=env("record_config"),
    shell:
        command("record_config", "", "config")


rule collect_compute:
    input:
        records=run_records(),
    output:
        table=f"{RESULTS}/compute.csv",
    log:
        f"{LOGS}/collect_compute.log",
    benchmark:
        f"{LOGS}/collect_compute.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
        gpu=0,
    params:
        cfg=canonical({"prices": STUDY["prices"]}),
        code=code("collect_compute"),
        env=env("collect_compute"),
    shell:
        command("collect_compute", "records", "table")
