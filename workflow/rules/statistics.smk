"""Statistics: correlations of profiles, contrasts of arms, verdicts on the published claims, the recommendation, the bill."""


rule correlate_profiles:
    input:
        profiles=lambda w: cheap_profiles_of(w.model),
        per_item=lambda w: profiles_of(w.model, ".items.parquet"),
        variants=lambda w: profiles_of(w.model, ".variants.parquet"),
        twins=lambda w: twin_profiles_of(w.model),
        frozen="data/published/specification.yaml",
    output:
        correlations=annexed(
            statistic("correlations.csv"), "3. Statistics", "correlations", model="{model}", table="correlations"
        ),
        specifications=annexed(
            statistic("specifications.csv"), "3. Statistics", "specifications", model="{model}", table="specifications"
        ),
        specification_curve=statistic("specification_curve.json"),
        twin_table=annexed(statistic("twins.csv"), "3. Statistics", "twins", model="{model}", table="twins"),
        run=statistic("correlations.run.json"),
    log:
        f"{LOGS}/correlate_profiles/{{model}}.log",
    benchmark:
        f"{LOGS}/correlate_profiles/{{model}}.tsv"
    threads: 1
    resources:
        mem_mb=memory("correlate_profiles"),
        runtime=minutes("correlate_profiles"),
        gpu=0,
    params:
        cfg=lambda w: canonical(correlation_settings()),
        code=code("correlate_profiles"),
        env=env("correlate_profiles"),
    shell:
        command(
            "correlate_profiles",
            "profiles per_item variants twins frozen",
            "correlations specifications specification_curve twin_table run",
            "{wildcards.model}",
        )


rule resample_items:
    input:
        per_item=lambda w: profiles_of(w.model, ".items.parquet"),
        pairs=lambda w: STUDY["pairs"]["files"] + made_pairs(w.model, SELECT["profiles"]),
    output:
        selection=annexed(statistic("selection.csv"), "3. Statistics", "selection", model="{model}", table="selection"),
        stability=statistic("stability.csv"),
        domains=annexed(statistic("domains.csv"), "3. Statistics", "domains", model="{model}", table="domains"),
    log:
        f"{LOGS}/resample_items/{{model}}.log",
    benchmark:
        f"{LOGS}/resample_items/{{model}}.tsv"
    threads: 1
    resources:
        mem_mb=memory("resample_items"),
        runtime=minutes("resample_items"),
        gpu=0,
    params:
        cfg=lambda w: canonical(resampling_settings()),
        code=code("resample_items"),
        env=env("resample_items"),
    shell:
        command("resample_items", "per_item pairs", "selection stability domains", "{wildcards.model}")


rule score_metrics:
    input:
        profiles=lambda w: cheap_profiles_of(w.model),
        gains=lambda w: gain_profiles_of(w.model),
    output:
        regret=annexed(statistic("regret.csv"), "3. Statistics", "regret", model="{model}", table="regret"),
    log:
        f"{LOGS}/score_metrics/{{model}}.log",
    benchmark:
        f"{LOGS}/score_metrics/{{model}}.tsv"
    threads: 1
    resources:
        mem_mb=memory("score_metrics"),
        runtime=minutes("score_metrics"),
        gpu=0,
    params:
        cfg=canonical({"seed": STUDY["statistics"]["seed"]}),
        code=code("score_metrics"),
        env=env("score_metrics"),
    shell:
        command("score_metrics", "profiles gains", "regret", "{wildcards.model}")


rule contrast_arms:
    input:
        summaries=lambda w: evaluations_of(w.model, ".json"),
        per_item=lambda w: evaluations_of(w.model, ".items.parquet"),
        heldout=lambda w: adapters_of(w.model, "heldout.parquet"),
    output:
        contrasts=annexed(statistic("contrasts.csv"), "3. Statistics", "contrasts", model="{model}", table="contrasts"),
        power=annexed(statistic("power.csv"), "3. Statistics", "power", model="{model}", table="power"),
    log:
        f"{LOGS}/contrast_arms/{{model}}.log",
    benchmark:
        f"{LOGS}/contrast_arms/{{model}}.tsv"
    threads: 1
    resources:
        mem_mb=memory("contrast_arms"),
        runtime=minutes("contrast_arms"),
        gpu=0,
    params:
        cfg=lambda w: canonical(contrast_settings(w)),
        code=code("contrast_arms"),
        env=env("contrast_arms"),
    shell:
        command("contrast_arms", "summaries per_item heldout", "contrasts power", "{wildcards.model}")


rule compare_base:
    input:
        contrasts=statistic("contrasts.csv"),
        drifts=lambda w: drifts_of(w.model),
    output:
        forgetting=annexed(
            statistic("forgetting.csv"), "3. Statistics", "forgetting", model="{model}", table="change from base"
        ),
    log:
        f"{LOGS}/compare_base/{{model}}.log",
    benchmark:
        f"{LOGS}/compare_base/{{model}}.tsv"
    threads: 1
    resources:
        mem_mb=memory("compare_base"),
        runtime=minutes("compare_base"),
        gpu=0,
    params:
        cfg=canonical({}),
        code=code("compare_base"),
        env=env("compare_base"),
    shell:
        command("compare_base", "contrasts drifts", "forgetting", "{wildcards.model}")


rule judge_claims:
    input:
        claims="data/published/claims.csv",
        correlations=statistic("correlations.csv"),
        contrasts=statistic("contrasts.csv"),
        domains=statistic("domains.csv"),
        twins=statistic("twins.csv"),
        profiles=lambda w: cheap_profiles_of(w.model),
        per_item=lambda w: profiles_of(w.model, ".items.parquet"),
        layer_sets=lambda w: [f"{RESULTS}/{w.model}/layer_sets/{name}.json" for name in selected_sets(w.model)],
        alphas=lambda w: adapters_of(w.model, "alphas.csv"),
        summaries=lambda w: evaluations_of(w.model, ".json"),
        arm_profiles=lambda w: arm_profiles_of(w.model),
        arms=lambda w: arms_files(w.model),
        heldout=lambda w: adapters_of(w.model, "heldout.parquet"),
    output:
        verdicts=annexed(statistic("claims.csv"), "3. Statistics", "claims", model="{model}", table="claims"),
    log:
        f"{LOGS}/judge_claims/{{model}}.log",
    benchmark:
        f"{LOGS}/judge_claims/{{model}}.tsv"
    threads: 1
    resources:
        mem_mb=memory("judge_claims"),
        runtime=minutes("judge_claims"),
        gpu=0,
    params:
        cfg=lambda w: canonical(claim_settings(w)),
        code=code("judge_claims"),
        env=env("judge_claims"),
    shell:
        command(
            "judge_claims",
            "claims correlations contrasts domains twins profiles per_item layer_sets alphas summaries arm_profiles "
            "arms heldout",
            "verdicts",
            "{wildcards.model}",
        )


rule recommend_layers:
    input:
        geometry=f"{BASE}/geometry.json",
        correlations=statistic("correlations.csv"),
        contrasts=statistic("contrasts.csv"),
        claims=statistic("claims.csv"),
        selection=statistic("selection.csv"),
        regret=statistic("regret.csv"),
        profile=f"{BASE}/profiles/{STUDY['statistics']['primary_sensitivity']}.csv",
        gains=lambda w: gain_profiles_of(w.model),
        arms=lambda w: arms_files(w.model),
        heldout=lambda w: adapters_of(w.model, "heldout.parquet"),
    output:
        recommendation=annexed(
            statistic("recommendation.json"),
            "3. Statistics",
            "recommendation",
            model="{model}",
            table="recommendation",
        ),
        findings=statistic("findings.json"),
    log:
        f"{LOGS}/recommend_layers/{{model}}.log",
    benchmark:
        f"{LOGS}/recommend_layers/{{model}}.tsv"
    threads: 1
    resources:
        mem_mb=memory("recommend_layers"),
        runtime=minutes("recommend_layers"),
        gpu=0,
    params:
        cfg=lambda w: canonical({"random_arms": random_arms(w.model)}),
        code=code("recommend_layers"),
        env=env("recommend_layers"),
    shell:
        command(
            "recommend_layers",
            "geometry correlations contrasts claims selection regret profile gains arms heldout",
            "recommendation findings",
            "{wildcards.model}",
        )


rule compare_models:
    input:
        geometries=per_model(f"{BASE}/geometry.json"),
        correlations=per_model(f"{BASE}/statistics/correlations.csv"),
        contrasts=per_model(f"{BASE}/statistics/contrasts.csv"),
        verdicts=per_model(f"{BASE}/statistics/claims.csv"),
        published="data/published/claims.csv",
        compute=f"{RESULTS}/compute.csv",
    output:
        table=annexed(f"{RESULTS}/across_models.csv", "5. The study", "models", table="models"),
        claims=f"{RESULTS}/across_claims.csv",
    log:
        f"{LOGS}/compare_models.log",
    benchmark:
        f"{LOGS}/compare_models.tsv"
    threads: 1
    resources:
        mem_mb=memory("compare_models"),
        runtime=minutes("compare_models"),
        gpu=0,
    params:
        cfg=canonical({"models": SELECT["models"], "scope": scope_of(*SELECT["models"])}),
        code=code("compare_models"),
        env=env("compare_models"),
    shell:
        command("compare_models", "geometries correlations contrasts verdicts published compute", "table claims")


rule reanalyse_print:
    input:
        numbers="data/published/numbers.csv",
        claims="data/published/claims.csv",
    output:
        table=annexed(f"{RESULTS}/reanalysis.csv", "5. The study", "reanalysis", table="reanalysis"),
        needed=f"{RESULTS}/needed.csv",
    log:
        f"{LOGS}/reanalyse_print.log",
    benchmark:
        f"{LOGS}/reanalyse_print.tsv"
    threads: 1
    resources:
        mem_mb=memory("reanalyse_print"),
        runtime=minutes("reanalyse_print"),
        gpu=0,
    params:
        cfg=canonical({}),
        code=code("reanalyse_print"),
        env=env("reanalyse_print"),
    shell:
        command("reanalyse_print", "numbers claims", "table needed")


rule record_config:
    output:
        config=annexed(f"{RESULTS}/config.yaml", "5. The study", "config", table="config"),
    log:
        f"{LOGS}/record_config.log",
    benchmark:
        f"{LOGS}/record_config.tsv"
    threads: 1
    resources:
        mem_mb=memory("record_config"),
        runtime=minutes("record_config"),
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
        # For the order: read are their records. Not as ancient: a job below one of these that runs again would then not be
        # asked whether its own settings have changed.
        others=other_outputs(),
    output:
        table=annexed(f"{RESULTS}/compute.csv", "5. The study", "compute", table="compute"),
        forecast=annexed(f"{RESULTS}/forecast.csv", "5. The study", "forecast", table="forecast against actual"),
        environment=f"{RESULTS}/environment.json",
    log:
        f"{LOGS}/collect_compute.log",
    benchmark:
        f"{LOGS}/collect_compute.tsv"
    threads: 1
    resources:
        mem_mb=memory("collect_compute"),
        runtime=minutes("collect_compute"),
        gpu=0,
    params:
        cfg=lambda w: canonical(bill_settings()),
        code=code("collect_compute"),
        env=env("collect_compute"),
    shell:
        command("collect_compute", "records", "table forecast environment")
