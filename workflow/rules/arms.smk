"""Layer sets out of profiles, and arms out of layer sets: what training reads is decided here."""


rule select_layers:
    input:
        geometry=f"{BASE}/geometry.json",
        profile=lambda w: set_profile(w, ".csv"),
        variants=lambda w: set_profile(w, ".variants.parquet"),
        sets=lambda w: [f"{RESULTS}/{w.model}/layer_sets/{part}.json" for part in set_parts(w.layer_set)],
    output:
        layer_set=f"{BASE}/layer_sets/{{layer_set}}.json",
    log:
        f"{LOGS}/select_layers/{{model}}/{{layer_set}}.log",
    benchmark:
        f"{LOGS}/select_layers/{{model}}/{{layer_set}}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
        gpu=0,
    params:
        cfg=lambda w: canonical({"name": w.layer_set, "rule": STUDY["layer_sets"][w.layer_set]}),
        code=code("select_layers"),
        env=env("select_layers"),
    shell:
        command("select_layers", "geometry profile variants sets", "layer_set", "{wildcards.layer_set}")


rule resolve_arm:
    input:
        geometry=f"{BASE}/geometry.json",
        sets=lambda w: [
            f"{RESULTS}/{w.model}/layer_sets/{name}.json"
            for name in configuration.arm_sets(STUDY, w.arm)
            if "random" not in STUDY["layer_sets"][name]
        ],
    output:
        arm=f"{BASE}/arms/{{arm}}/seed{{seed}}.json",
    log:
        f"{LOGS}/resolve_arm/{{model}}/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{LOGS}/resolve_arm/{{model}}/{{arm}}/seed{{seed}}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
        gpu=0,
    params:
        cfg=lambda w: canonical(arm_settings(w)),
        code=code("resolve_arm"),
        env=env("resolve_arm"),
    shell:
        command("resolve_arm", "geometry sets", "arm", "{wildcards.arm} seed {wildcards.seed}")
