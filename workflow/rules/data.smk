"""Data: pairs and texts checked, data sets fetched, the training mixture made and held against every benchmark."""


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
        mem_mb=1000,
        runtime=10,
        gpu=0,
    params:
        cfg=canonical({}),
        code=code("check_pairs"),
        env=env("check_pairs"),
    shell:
        command("check_pairs", "pairs paraphrases texts", "report")


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
        mem_mb=2000,
        runtime=120,
        gpu=0,
    params:
        cfg=lambda w: canonical({"source": f"{w.organisation}/{w.dataset}"}),
        code=code("fetch_benchmark"),
        env=env("fetch_benchmark"),
    shell:
        command("fetch_benchmark", "", "manifest run", "{wildcards.organisation}/{wildcards.dataset}")


rule fetch_mixture:
    input:
        data=mixture_files(),
    output:
        train=mixture("train"),
        validate=mixture("validate"),
        test=mixture("test"),
    log:
        f"{LOGS}/fetch_mixture.log",
    benchmark:
        f"{LOGS}/fetch_mixture.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
        gpu=0,
    params:
        cfg=canonical(STUDY["mixture"]),
        code=code("fetch_mixture"),
        env=env("fetch_mixture"),
    shell:
        command("fetch_mixture", "data", "train validate test")


rule check_contamination:
    input:
        splits=[mixture(split) for split in ("train", "validate", "test")],
        references=lambda w: reference_files(),
    output:
        table=f"{RESULTS}/mixture/contamination.csv",
    log:
        f"{LOGS}/check_contamination.log",
    benchmark:
        f"{LOGS}/check_contamination.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=0,
    params:
        cfg=canonical({}),
        code=code("check_contamination"),
        env=env("check_contamination"),
    shell:
        command("check_contamination", "splits references", "table")
