"""Score generated programs in the sandbox: pass@1 (Chen et al. 2021), the share whose tests pass.

The functions have the signatures of lm-eval's HumanEval metric and filters. The built-in mini_humaneval names them in
its YAML; for lm-eval's own HumanEval tasks `in_sandbox` puts them in the place of a metric that runs programs
unprotected (and needs the network).
"""

from collections.abc import Iterable

PACKAGES = ("numpy",)  # HumanEval+ compares floats with numpy


def pass_at_1(references: list[str], predictions: list[list[str]], **_) -> float:
    """Share of the programs `predictions[0]` that run to the end when followed by the tests `references[0]`."""
    from colocate.evaluation import sandbox

    programs = [f"{program}\n\n{references[0]}" for program in predictions[0]]
    packages = PACKAGES if "numpy" in references[0] else ()
    return sum(sandbox.run(program, packages=packages).passed for program in programs) / len(programs)


def complete(resps: Iterable[list[str]], docs: Iterable[dict]) -> list[list[str]]:
    """Prompt and continuation: a whole program."""
    return [[doc["prompt"] + text for text in texts] for texts, doc in zip(resps, docs, strict=True)]


def complete_fenced(resps: Iterable[list[str]], docs: Iterable[dict]) -> list[list[str]]:
    """As `complete`, up to the fence that ends a chat model's code block."""
    return complete([[text.split("```")[0] for text in texts] for texts in resps], docs)


STOCK = {"pass_at_k": pass_at_1, "build_predictions": complete, "build_predictions_instruct": complete_fenced}


def is_stock_humaneval(config: dict) -> bool:
    """Whether an unresolved task config scores with lm-eval's own unprotected runner."""
    return any(str(metric.get("metric")).endswith("utils.pass_at_k") for metric in config.get("metric_list") or [])


def in_sandbox(config: dict) -> dict:
    """The same task, prompts and stop strings; programs run in the sandbox, the gold answer is the reference solution.

    `config`: the task's config with functions as strings, as lm-eval's index holds it.
    """

    def swap(function: str):
        return STOCK[str(function).rpartition(".")[2]]

    metrics = [{**metric, "metric": swap(metric["metric"])} for metric in config["metric_list"]]
    filters = [
        {**chain, "filter": [{**part, "filter_fn": swap(part["filter_fn"])} for part in chain["filter"]]}
        for chain in config["filter_list"]
    ]
    gold = {"fewshot_config": {"doc_to_target": "{{canonical_solution}}"}}
    return {**config, "metric_list": metrics, "filter_list": filters, **gold}
