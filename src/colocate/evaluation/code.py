"""Score generated programs in the sandbox: pass@1 (Chen et al. 2021), the share whose tests pass.

The functions have the signatures of lm-eval's HumanEval metric and filters. The built-in mini_humaneval names them in
its YAML; for lm-eval's own HumanEval tasks `in_sandbox` puts them in the place of a metric that runs programs
unprotected (and needs the network).

A program is prompt and continuation. Its tests run apart from it, with what they need beside the function under test
(helpers, imports) from the prompt itself, so a continuation that redefines a helper changes nothing.
"""

import ast
import builtins
import importlib.util
import symtable
from collections.abc import Iterable, Iterator

from colocate.errors import InputError

PACKAGES = ("numpy",)  # HumanEval+ compares floats with numpy, and programs import it


def pass_at_1(references: list[str], predictions: list[list[str]], **_) -> float:
    """Share of the programs `predictions[0]` for which the tests `references[0]` come to their end."""
    from colocate.evaluation import sandbox

    packages = tuple(name for name in PACKAGES if importlib.util.find_spec(name))
    tests = references[0]
    names = functions(tests)
    if not names:
        raise InputError("generated code: the tests call no function of the program; end them with check(<function>)")
    outcomes = [sandbox.run(text, packages=packages, tests=tests, functions=names) for text in predictions[0]]
    return sum(outcome.passed for outcome in outcomes) / len(outcomes)


def functions(tests: str) -> tuple[str, ...]:
    """The names that a program must define: those that the tests use and do not, and F of a closing `check(F)`.

    F may be defined in the tests, as the signature that the program completes.
    """
    names = set(_free(tests))
    match ast.parse(tests).body:
        case [*_, ast.Expr(ast.Call(ast.Name("check"), [ast.Name(name)]))]:
            names.add(name)
    return tuple(sorted(names))


def _free(source: str) -> Iterator[str]:
    top = symtable.symtable(source, "tests", "exec")
    defined = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    tables = [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            name = symbol.get_name()
            outer = table is top or symbol.is_global()
            if outer and symbol.is_referenced() and name not in defined and not hasattr(builtins, name):
                yield name


def complete(resps: Iterable[list[str]], docs: Iterable[dict]) -> list[list[str]]:
    """Prompt and continuation: a whole program."""
    return [[doc["prompt"] + text for text in texts] for texts, doc in zip(resps, docs, strict=True)]


def complete_fenced(resps: Iterable[list[str]], docs: Iterable[dict]) -> list[list[str]]:
    """As `complete`, up to the fence that ends a chat model's code block."""
    return complete([[text.split("```")[0] for text in texts] for texts in resps], docs)


STOCK = {"pass_at_k": pass_at_1, "build_predictions": complete, "build_predictions_instruct": complete_fenced}
# The prompt is an unfinished function, after the helpers and imports that the tests may use too.
REFERENCE = "{{prompt}}\n    pass\n\n{{test}}\ncheck({{entry_point}})"


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
    return {**config, "metric_list": metrics, "filter_list": filters, "doc_to_target": REFERENCE, **gold}
