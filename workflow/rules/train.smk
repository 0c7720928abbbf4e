"""Training: one job an arm and seed; layer metrics of each trained arm, and of a released fine-tune, against base."""


rule train_arm:
    input:
        model=model_folder,
        geometry=f"{BASE}/geometry.json",
        arm=f"{BASE}/arms/{{arm}}/seed{{seed}}.json",
        train=mixture("train"),
        validate=mixture("validate"),
        test=mixture("test"),
    output:
        config=f"{BASE}/adapters/{{arm}}/seed{{seed}}/adapter_config.json",
        adapter=f"{BASE}/adapters/{{arm}}/seed{{seed}}/adapter_model.safetensors",
        training_log=f"{BASE}/adapters/{{arm}}/seed{{seed}}/training_log.csv",
        alphas=f"{BASE}/adapters/{{arm}}/seed{{seed}}/alphas.csv",
        temperatures=f"{BASE}/adapters/{{arm}}/seed{{seed}}/temperatures.csv",
        heldout=f"{BASE}/adapters/{{arm}}/seed{{seed}}/heldout.parquet",
        run=f"{BASE}/adapters/{{arm}}/seed{{seed}}/train.run.json",
        manifest=f"{BASE}/adapters/{{arm}}/seed{{seed}}/manifest.json",
    log:
        f"{LOGS}/train_arm/{{model}}/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{LOGS}/train_arm/{{model}}/{{arm}}/seed{{seed}}.tsv"
    threads: THREADS
    resources:
        mem_mb=memory("train_arm"),
        runtime=minutes("train_arm"),
        gpu=GPU,
        nodes=1,
    params:
        cfg=lambda w: canonical(
            training_settings(w) | {"scratch": f"{SCRATCH}/{w.model}/{w.arm}/seed{w.seed}", "seed": int(w.seed)}
        ),
        code=code("train_arm"),
        env=env("train_arm"),
    shell:
        command(
            "train_arm",
            "model geometry arm train validate test",
            "config adapter training_log alphas temperatures heldout run manifest",
            "{wildcards.arm} seed {wildcards.seed}",
        )


rule profile_arm:
    input:
        model=model_folder,
        geometry=f"{BASE}/geometry.json",
        manifest=f"{BASE}/adapters/{{arm}}/seed{{seed}}/manifest.json",
        adapter=ancient(f"{BASE}/adapters/{{arm}}/seed{{seed}}/adapter_model.safetensors"),
        checked=f"{BASE}/pairs.json",
        pairs=STUDY["pairs"]["files"],
        paraphrases=STUDY["pairs"]["paraphrases"],
    output:
        profile=f"{BASE}/arm_profiles/{{arm}}/seed{{seed}}/{{metric}}.csv",
        variants=f"{BASE}/arm_profiles/{{arm}}/seed{{seed}}/{{metric}}.variants.parquet",
        run=f"{BASE}/arm_profiles/{{arm}}/seed{{seed}}/{{metric}}.run.json",
    log:
        f"{LOGS}/profile_arm/{{model}}/{{arm}}/seed{{seed}}/{{metric}}.log",
    benchmark:
        f"{LOGS}/profile_arm/{{model}}/{{arm}}/seed{{seed}}/{{metric}}.tsv"
    threads: THREADS
    resources:
        mem_mb=memory("profile_arm"),
        runtime=minutes("profile_arm"),
        gpu=GPU,
        nodes=1,
    params:
        cfg=lambda w: canonical(arm_profile_settings(w)),
        code=lambda w: code("profile_arm", METRICS[w.metric].module),
        env=lambda w: env("profile_arm", METRICS[w.metric].module),
    shell:
        command(
            "profile_arm",
            "model geometry adapter pairs paraphrases",
            "profile variants run",
            "{wildcards.metric} {wildcards.arm} seed {wildcards.seed}",
        )


rule profile_released:
    input:
        model=model_folder,
        geometry=f"{BASE}/geometry.json",
        tuned="resources/models/{tuned}/manifest.json",
        checked=f"{BASE}/pairs.json",
        pairs=STUDY["pairs"]["files"],
        paraphrases=STUDY["pairs"]["paraphrases"],
    output:
        profile=f"{BASE}/arm_profiles/released-{{tuned}}/seed0/{{metric}}.csv",
        variants=f"{BASE}/arm_profiles/released-{{tuned}}/seed0/{{metric}}.variants.parquet",
        run=f"{BASE}/arm_profiles/released-{{tuned}}/seed0/{{metric}}.run.json",
    log:
        f"{LOGS}/profile_released/{{model}}/{{tuned}}/{{metric}}.log",
    benchmark:
        f"{LOGS}/profile_released/{{model}}/{{tuned}}/{{metric}}.tsv"
    threads: THREADS
    resources:
        mem_mb=memory("profile_released"),
        runtime=minutes("profile_released"),
        gpu=GPU,
        nodes=1,
    params:
        cfg=lambda w: canonical(arm_profile_settings(w)),
        code=lambda w: code("profile_released", METRICS[w.metric].module),
        env=lambda w: env("profile_released", METRICS[w.metric].module),
    shell:
        command(
            "profile_released",
            "model geometry tuned pairs paraphrases",
            "profile variants run",
            "{wildcards.metric} {wildcards.tuned}",
        )
