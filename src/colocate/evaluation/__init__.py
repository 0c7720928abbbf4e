"""Evaluate a model, with or without an adapter, on one benchmark: lm-eval's tasks on a live transformers model.

    tasks      the benchmark's config entry -> lm-eval tasks on local data
    backend    the model behind lm-eval: log-likelihoods (scoring) and answers (generation), with beginnings that
               requests share computed once (prefixes, slots, passes)
    code       generated programs -> pass or fail, in the sandbox (sandbox, box, walls, inside, clock,
               seccomp)
    items      samples -> one row an item -> summary
    chance     accuracies that guessing would reach, and whether two arms were asked the same
    drift      KL to the base model on neutral text

Greedy decoding and one evaluation seed for a whole study: two evaluations differ by their model alone, so items pair.
Source: lm-evaluation-harness 0.4.13.
"""

import os
from collections.abc import Callable
from pathlib import Path

from colocate.errors import InputError
from colocate.files import silent

__all__ = ["evaluate"]
SETTINGS = ("seed", "batch_size", "batch_tokens", "sandbox", "chat_template")


def evaluate(
    model_folder: Path,
    adapter: Path | None,
    benchmark: str,
    task: dict,
    settings: dict,
    *,
    dtype: str,
    device: str,
    benchmarks_dir: Path = Path("data/benchmarks"),
    datasets_dir: Path = Path("resources/datasets"),
    progress: Callable[[float, str], None] = silent,
    record: dict | None = None,
) -> tuple[dict, "pandas.DataFrame"]:  # noqa: F821 (pandas is heavy: imported where it is used)
    """Returns (summary, items); columns and definitions in colocate.evaluation.items.

    `task`: the benchmark's config entry. Keys: task (a name, or the path of a YAML), source ("builtin", or a hub id
    below `datasets_dir`); optional:
    num_fewshot, first_n (the same examples before every question), max_new_tokens, chat_template (where absent, the
    task's own), subset (some tasks of a group), limit (first items of each task only), private (no texts are returned),
    metric and filter (where absent, see colocate.evaluation.items).
    `settings`: seed, batch_size (rows at once, at most), sandbox (one of sandbox.MODES), and the model's chat_template
    ("auto": the tokenizer's, or a plain one if it has none; "plain"; or a Jinja template); optional: batch_tokens
    (tokens at once, at most: backend.BATCH_TOKENS; it halves where memory runs out).
    `record`, for the run record, gets batch_tokens as they were at the end, batch_tokens_halved (how often) and
    one_request_at_a_time (why, or "").
    `dtype`, `device`: as for models.load_model; log-probabilities are float32 in any case.

    A benchmark that runs generated code where no sandbox is to be had is not run: status "not run: no sandbox", a
    reason, no items.
    """
    # Before lm-eval and datasets are imported: a job never asks the network, and a log is not a terminal.
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false")
    os.environ["TORCHDYNAMO_DISABLE"] = "1"  # nothing is compiled here, and importing peft would load the compiler
    import tempfile

    from colocate.evaluation import sandbox

    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise InputError(f"evaluation: unknown keys {unknown}; allowed: {', '.join(SETTINGS)}")
    with tempfile.TemporaryDirectory() as cache, sandbox.use(settings.get("sandbox", "auto")):
        return _evaluate(
            model_folder,
            adapter,
            benchmark,
            task,
            settings,
            where={"dtype": dtype, "device": device},
            folders={
                "benchmarks_dir": Path(benchmarks_dir),
                "datasets_dir": Path(datasets_dir),
                "cache_dir": Path(cache),
            },
            progress=progress,
            record={} if record is None else record,
        )


def _evaluate(model_folder, adapter, benchmark, task, settings, *, where, folders, progress, record):
    from colocate.evaluation import chance, sandbox, tasks
    from colocate.evaluation import items as tables

    progress(0.0, "tasks")
    loaded = tasks.load(task, seed=settings["seed"], **folders)
    chat = _asks_in_chat(task, loaded)
    about = {
        "benchmark": benchmark,
        "task": task["task"],
        "source": task.get("source", "builtin"),
        "version": {name: str(item.VERSION) for name, item in loaded.items()},
        "data_digest": tasks.data_digest(loaded),
        "settings": {
            "num_fewshot": {name: item.config.num_fewshot or 0 for name, item in loaded.items()},
            "first_n": bool(task.get("first_n")),
            "chat_template": chat,
            "limit": task.get("limit"),
            "subset": task.get("subset"),
            "max_new_tokens": task.get("max_new_tokens"),
            "seed": settings["seed"],
            "batch_size": settings["batch_size"],
            **where,
        },
    }
    runs_code = any(getattr(item, "UNSAFE_CODE", False) for item in loaded.values())
    if runs_code:
        about["settings"]["sandbox"] = sandbox.describe()
        ready, reason = sandbox.available()
        if not ready and settings.get("sandbox") == "bubblewrap":
            raise InputError(reason)
        if not ready:
            nothing = tables.empty()
            empty = tables.summarise(nothing) | chance.mark(None, None, 0, None)
            return about | empty | {"status": "not run: no sandbox", "reason": reason}, nothing
    progress(0.02, "model")
    live = _live_model(model_folder, adapter, settings, where, lambda done, note: progress(0.1 + 0.85 * done, note))
    from colocate import onednn

    with onednn.float32_layers(live.model):  # at least the output head
        items, guess = _run(live, loaded, task, chat)
    prompts = items.attrs.pop("prompts")
    record.update(live.record)
    progress(1.0, "done")
    summary = about | tables.summarise(items)
    summary |= {"status": "ok", "prompt_hash": tables.prompt_hash(prompts)}
    return summary | chance.mark(summary["accuracy"], summary["stderr"], len(items), guess), items


def _asks_in_chat(task: dict, loaded: dict) -> bool:
    """The entry's chat_template, else the task's own (metadata of its YAML), else no."""
    if task.get("chat_template") is not None:
        return task["chat_template"]
    return all((item.config.metadata or {}).get("chat_template", False) for item in loaded.values())


def _live_model(model_folder, adapter, settings, where, progress):
    from colocate import models
    from colocate.evaluation.backend import LiveModel

    model = models.load_model(model_folder, where["dtype"], where["device"])
    tokenizer = models.load_tokenizer(model_folder)
    wanted = settings.get("chat_template", "auto")
    if "{" in wanted:
        tokenizer.chat_template = wanted
    elif wanted == "plain" or tokenizer.chat_template is None:
        from colocate.instructions import PLAIN_TEMPLATE

        tokenizer.chat_template = PLAIN_TEMPLATE
    if adapter is not None:
        from colocate import adapters

        model = adapters.load(model, adapter).eval()
    more = {"batch_tokens": settings["batch_tokens"]} if "batch_tokens" in settings else {}
    return LiveModel(model, tokenizer, settings["batch_size"], progress, **more)


def _run(live, loaded: dict, task: dict, chat: bool):
    """Ask everything, then score the gold answers of generative items; returns the table of items, and what guessing
    would score.
    """
    from lm_eval import evaluator

    from colocate.evaluation import items as tables
    from colocate.evaluation import tasks

    results = evaluator.evaluate(
        live,
        {"tasks": loaded},
        limit=task.get("limit"),
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
        bootstrap_iters=0,
        confirm_run_unsafe_code=True,  # ours run in the sandbox
    )
    samples = results["samples"]
    gold = _gold_answers(live, loaded, samples, chat)
    source = task.get("source", "builtin")
    groups = {name: tasks.groups(name, list(item.eval_docs), source) for name, item in loaded.items()}
    items = tables.table(loaded, samples, groups, gold, task)
    items.attrs["prompts"] = [sample["arguments"][0][0] for name in loaded for sample in samples[name]]
    choices = [len(found) for found in gold.values() if isinstance(found, list)]
    guess = sum(1 / count for count in choices) / len(gold) if gold else None
    return items, guess


def _gold_answers(live, loaded: dict, samples: dict, chat: bool) -> dict:
    """By (task, document): token counts of all choices, or (log-probability, tokens) of the gold text."""
    from lm_eval.api.instance import Instance

    gold, requests = {}, {}
    for name, item in loaded.items():
        for sample in samples[name]:
            key = (name, sample["doc_id"])
            if key in gold or key in requests:  # a second filter over the same answers
                continue
            if item.OUTPUT_TYPE == "multiple_choice":
                choices = len(item.doc_to_choice(sample["doc"]))
                gold[key] = [len(live._encode_pair(*pair)[1]) for pair in sample["arguments"][:choices]]
            else:
                prompt, text = sample["arguments"][0][0], _gold_text(item, sample["doc"], chat)
                if text is None:
                    gold[key] = (None, None)
                    continue
                requests[key] = Instance("loglikelihood", sample["doc"], (prompt, text), 0)
    if requests:
        scores = live.loglikelihood(list(requests.values()), disable_tqdm=True)
        for (key, request), (logprob, _) in zip(requests.items(), scores, strict=True):
            gold[key] = (logprob, len(live._encode_pair(*request.args)[1]))
    return gold


def _gold_text(item, document: dict, chat: bool) -> str | None:
    """The reference answer as it follows a prompt; None where the task has none."""
    from colocate.evaluation import tasks

    text = tasks.reference(item, document)
    return None if text is None else ("" if chat else item.config.target_delimiter) + text
