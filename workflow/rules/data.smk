"""Data: pairs and texts checked or made, data sets fetched, the training mixture made and held against every benchmark."""


rule check_pairs:
    input:
        pairs=STUDY["pairs"]["files"],
        paraphrases=STUDY["pairs"]["paraphrases"],
        texts=STUDY["pairs"]["texts"],
    output:
        report=f"{RESULTS}/pairs.json",
    log:
        f"{LOGS}/check_pairs.log",
    benchmark:
        f"{LOGS}/check_pairs.tsv"
    threads: 1
    resources:
        mem_mb=memory("check_pairs"),
        runtime=minutes("check_pairs"),
        gpu=0,
    params:
        cfg=canonical({}),
        code=code("check_pairs"),
        env=env("check_pairs"),
    shell:
        command("check_pairs", "pairs paraphrases texts", "report")


rule check_tokens:
    input:
        model=model_folder,
        checked=f"{RESULTS}/pairs.json",
        pairs=STUDY["pairs"]["files"],
        paraphrases=STUDY["pairs"]["paraphrases"],
        texts=STUDY["pairs"]["texts"],
    output:
        report=f"{BASE}/pairs.json",
    log:
        f"{LOGS}/check_tokens/{{model}}.log",
    benchmark:
        f"{LOGS}/check_tokens/{{model}}.tsv"
    threads: 1
    resources:
        mem_mb=memory("check_tokens"),
        runtime=minutes("check_tokens"),
        gpu=0,
    params:
        cfg=canonical(token_settings()),
        code=code("check_tokens"),
        env=env("check_tokens"),
    shell:
        command("check_tokens", "model pairs paraphrases texts", "report", "{wildcards.model}")


rule make_pairs:
    input:
        model=model_folder,
        geometry=f"{BASE}/geometry.json",
        data=lambda w: made_data(),
    output:
        made=f"{BASE}/pairs/made.jsonl",
        run=f"{BASE}/pairs/made.run.json",
    log:
        f"{LOGS}/make_pairs/{{model}}.log",
    benchmark:
        f"{LOGS}/make_pairs/{{model}}.tsv"
    threads: THREADS
    resources:
        mem_mb=memory("make_pairs"),
        runtime=minutes("make_pairs"),
        gpu=GPU,
        nodes=1,
    params:
        cfg=lambda w: canonical(made_settings(w)),
        code=code("make_pairs"),
        env=env("make_pairs"),
    shell:
        command("make_pairs", "model geometry data", "made run", "{wildcards.model}")


rule fetch_benchmark:
    output:
        manifest="resources/datasets/{organisation}/{dataset}/manifest.json",
        run="resources/datasets/{organisation}/{dataset}.run.json",
    log:
        f"{LOGS}/fetch_benchmark/{{organisation}}/{{dataset}}.log",
    benchmark:
        f"{LOGS}/fetch_benchmark/{{organisation}}/{{dataset}}.tsv"
    wildcard_constraints:
        organisation="[^/]+",
        dataset="[^/]+",
    threads: 1
    resources:
        mem_mb=memory("fetch_benchmark"),
        runtime=minutes("fetch_benchmark"),
        gpu=0,
    params:
        cfg=lambda w: canonical(dataset_settings(w)),
        code=code("fetch_benchmark"),
        env=env("fetch_benchmark"),
    shell:
        command("fetch_benchmark", "", "manifest run", "{wildcards.organisation}/{wildcards.dataset}")


rule fetch_mixture:
    input:
        data=lambda w: mixture_files(),
        references=lambda w: dropped_for(),
    output:
        train=mixture("train"),
        validate=mixture("validate"),
        test=mixture("test"),
        dropped=f"{RESULTS}/mixture/dropped.csv",
    log:
        f"{LOGS}/fetch_mixture.log",
    benchmark:
        f"{LOGS}/fetch_mixture.tsv"
    threads: 1
    resources:
        mem_mb=memory("fetch_mixture"),
        runtime=minutes("fetch_mixture"),
        gpu=0,
    params:
        cfg=canonical(mixture_settings()),
        code=code("fetch_mixture"),
        env=env("fetch_mixture"),
    shell:
        command("fetch_mixture", "data references", "train validate test dropped")


rule check_contamination:
    input:
        splits=[mixture(split) for split in ("train", "validate", "test")],
        references=lambda w: reference_files(),
    output:
        table=f"{RESULTS}/mixture/contamination.csv",
        counts=f"{RESULTS}/mixture/contamination_counts.csv",
    log:
        f"{LOGS}/check_contamination.log",
    benchmark:
        f"{LOGS}/check_contamination.tsv"
    threads: 1
    resources:
        mem_mb=memory("check_contamination"),
        runtime=minutes("check_contamination"),
        gpu=0,
    params:
        cfg=canonical(reference_settings()),
        code=code("check_contamination"),
        env=env("check_contamination"),
    shell:
        command("check_contamination", "splits references", "table counts")
