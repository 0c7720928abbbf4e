"""Layer sets out of profiles, learning rates out of short tries, and arms out of both: what training reads."""


rule select_layers:
    input:
        geometry=f"{BASE}/geometry.json",
        profile=lambda w: set_profile(w, ".csv"),
        variants=lambda w: set_profile(w, ".variants.parquet"),
        sets=lambda w: [
            f"{RESULTS}/{w.model}/layer_sets/{part}.json"
            for part in configuration.set_parts(STUDY["layer_sets"][w.layer_set])
        ],
    output:
        layer_set=f"{BASE}/layer_sets/{{layer_set}}.json",
    log:
        f"{LOGS}/select_layers/{{model}}/{{layer_set}}.log",
    benchmark:
        f"{LOGS}/select_layers/{{model}}/{{layer_set}}.tsv"
    threads: 1
    resources:
        mem_mb=memory("select_layers"),
        runtime=minutes("select_layers"),
        gpu=0,
    params:
        cfg=lambda w: canonical({"name": w.layer_set, "rule": STUDY["layer_sets"][w.layer_set]}),
        code=code("select_layers"),
        env=env("select_layers"),
    shell:
        command("select_layers", "geometry profile variants sets", "layer_set", "{wildcards.layer_set}")


rule tune_arm:
    input:
        model=model_folder,
        geometry=f"{BASE}/geometry.json",
        sets=arm_set_files,
        train=mixture("train"),
        validate=mixture("validate"),
        test=mixture("test"),
    output:
        tried=f"{BASE}/tuning/{{arm}}/rate{{rate}}.json",
        run=f"{BASE}/tuning/{{arm}}/rate{{rate}}.run.json",
    log:
        f"{LOGS}/tune_arm/{{model}}/{{arm}}/rate{{rate}}.log",
    benchmark:
        f"{LOGS}/tune_arm/{{model}}/{{arm}}/rate{{rate}}.tsv"
    threads: THREADS
    resources:
        mem_mb=memory("tune_arm"),
        runtime=minutes("tune_arm"),
        gpu=GPU,
        nodes=1,
    params:
        cfg=lambda w: canonical(tuning_settings(w)),
        code=code("tune_arm"),
        env=env("tune_arm"),
    shell:
        command(
            "tune_arm",
            "model geometry sets train validate test",
            "tried run",
            "{wildcards.arm} rate {wildcards.rate}",
        )


rule resolve_arm:
    input:
        geometry=f"{BASE}/geometry.json",
        sets=arm_set_files,
        tries=lambda w: tuning_files(w.model, w.arm),
    output:
        arm=f"{BASE}/arms/{{arm}}/seed{{seed}}.json",
    log:
        f"{LOGS}/resolve_arm/{{model}}/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{LOGS}/resolve_arm/{{model}}/{{arm}}/seed{{seed}}.tsv"
    threads: 1
    resources:
        mem_mb=memory("resolve_arm"),
        runtime=minutes("resolve_arm"),
        gpu=0,
    params:
        cfg=lambda w: canonical(arm_settings(w)),
        code=code("resolve_arm"),
        env=env("resolve_arm"),
    shell:
        command("resolve_arm", "geometry sets tries", "arm", "{wildcards.arm} seed {wildcards.seed}")
