"""Layer profiles of the untrained model and of its twins: one job a profile; layer gain: one job a layer and seed."""


rule profile_layers:
    input:
        model=model_folder,
        geometry=f"{BASE}/geometry.json",
        checked=f"{BASE}/pairs.json",
        pairs=pair_files,
        paraphrases=STUDY["pairs"]["paraphrases"],
        texts=STUDY["pairs"]["texts"],
        examples=lambda w: example_files(w.profile),
    output:
        profile=annexed(
            f"{BASE}/profiles/{{profile}}.csv", "2. Layer profiles", "profile", model="{model}", profile="{profile}"
        ),
        per_item=f"{BASE}/profiles/{{profile}}.items.parquet",
        variants=f"{BASE}/profiles/{{profile}}.variants.parquet",
        run=f"{BASE}/profiles/{{profile}}.run.json",
    log:
        f"{LOGS}/profile_layers/{{model}}/{{profile}}.log",
    benchmark:
        f"{LOGS}/profile_layers/{{model}}/{{profile}}.tsv"
    threads: THREADS
    resources:
        mem_mb=memory("profile_layers"),
        runtime=minutes("profile_layers"),
        gpu=GPU,
        nodes=1,
    params:
        cfg=lambda w: canonical(profile_settings(w)),
        code=lambda w: code("profile_layers", profile_module(w.profile)),
        env=lambda w: env("profile_layers", profile_module(w.profile)),
    shell:
        command(
            "profile_layers",
            "model geometry pairs paraphrases texts examples",
            "profile per_item variants run",
            "{wildcards.profile}",
        )


rule profile_twin:
    input:
        model=model_folder,
        geometry=f"{BASE}/geometry.json",
        checked=f"{BASE}/pairs.json",
        pairs=STUDY["pairs"]["files"],
        paraphrases=STUDY["pairs"]["paraphrases"],
        texts=STUDY["pairs"]["texts"],
    output:
        profile=f"{BASE}/twins/{{twin}}/{{profile}}.csv",
        run=f"{BASE}/twins/{{twin}}/{{profile}}.run.json",
    log:
        f"{LOGS}/profile_twin/{{model}}/{{twin}}/{{profile}}.log",
    benchmark:
        f"{LOGS}/profile_twin/{{model}}/{{twin}}/{{profile}}.tsv"
    threads: THREADS
    resources:
        mem_mb=memory("profile_twin"),
        runtime=minutes("profile_twin"),
        gpu=GPU,
        nodes=1,
    params:
        cfg=lambda w: canonical(profile_settings(w) | {"twin": w.twin}),
        code=lambda w: code("profile_twin", profile_module(w.profile)),
        env=lambda w: env("profile_twin", profile_module(w.profile)),
    shell:
        command(
            "profile_twin",
            "model geometry pairs paraphrases texts",
            "profile run",
            "{wildcards.profile} {wildcards.twin}",
        )


rule gain_layer:
    input:
        model=model_folder,
        geometry=f"{BASE}/geometry.json",
        train=mixture("train"),
        validate=mixture("validate"),
        test=mixture("test"),
    output:
        gain=f"{BASE}/{{gain}}/layer{{layer}}/seed{{seed}}.json",
        run=f"{BASE}/{{gain}}/layer{{layer}}/seed{{seed}}.run.json",
    log:
        f"{LOGS}/gain_layer/{{model}}/{{gain}}/layer{{layer}}/seed{{seed}}.log",
    benchmark:
        f"{LOGS}/gain_layer/{{model}}/{{gain}}/layer{{layer}}/seed{{seed}}.tsv"
    threads: THREADS
    resources:
        mem_mb=memory("gain_layer"),
        runtime=minutes("gain_layer"),
        gpu=GPU,
        nodes=1,
    params:
        cfg=lambda w: canonical(gain_settings(w)),
        code=code("gain_layer"),
        env=env("gain_layer"),
    shell:
        command(
            "gain_layer",
            "model geometry train validate test",
            "gain run",
            "{wildcards.gain} {wildcards.layer} seed {wildcards.seed}",
        )


rule join_layer_gain:
    input:
        gains=lambda w: gain_files(w.model, w.gain, ".json"),
    output:
        profile=f"{BASE}/profiles/{{gain}}.csv",
    log:
        f"{LOGS}/join_layer_gain/{{model}}/{{gain}}.log",
    benchmark:
        f"{LOGS}/join_layer_gain/{{model}}/{{gain}}.tsv"
    threads: 1
    resources:
        mem_mb=memory("join_layer_gain"),
        runtime=minutes("join_layer_gain"),
        gpu=0,
    params:
        cfg=lambda w: canonical({"kind": gain_kind(w.gain)}),
        code=code("join_layer_gain"),
        env=env("join_layer_gain"),
    shell:
        command("join_layer_gain", "gains", "profile", "{wildcards.gain} {wildcards.model}")
