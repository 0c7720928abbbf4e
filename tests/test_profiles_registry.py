"""The registry of metrics, settings, windows and tables: what all metrics share."""

import importlib
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from colocate.errors import InputError
from colocate.pairs import Text
from colocate.profiles import METRICS, compute, settings, tables
from colocate.profiles.intervals import bootstrap_mean, half_sampling
from colocate.profiles.windows import windows
from tiny import make_tokenizer


def test_importing_the_registry_loads_nothing_heavy():
    code = "import sys, colocate.profiles, colocate.profiles.noise_floor; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("torch", "transformers", "peft", "pandas", "numpy"):
        assert f"'{heavy}'" not in loaded


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_module_that_computes(name):
    metric = METRICS[name]
    assert metric.name == name
    assert metric.needs in ("pairs", "texts", "examples", "arm")
    assert metric.dtype in ("", "float32")
    assert all((metric.formula, metric.source, metric.meaning))
    assert callable(importlib.import_module(metric.module).compute)


class TwoModels:
    """As much of profiles.compared.Compared as a metric needs to look at its settings."""

    def both(self, measure, progress):
        return measure(None, progress), measure(None, progress)


@pytest.mark.parametrize("name", METRICS)
def test_the_registry_names_every_setting_of_a_metric(name):
    """The workflow passes on exactly these keys: one that is missing here could never be set."""
    with pytest.raises(InputError, match="^nonsense: unknown setting; allowed: ") as error:
        compute(name, TwoModels(), None, {"metric": name, "nonsense": 1}, {})
    allowed = set(str(error.value).partition("allowed: ")[2].split(", "))
    assert allowed - {"seed", "batch_tokens"} == set(METRICS[name].settings) - {"batch_tokens"}


def test_an_unknown_metric_is_refused():
    with pytest.raises(InputError, match="metric: found 'attention', allowed: .*rope_influence, .*sensitivity"):
        compute("attention", None, None, {}, {})


@dataclass(frozen=True)
class Example:
    name: str = "a"
    share: float = 0.5
    count: int = 1
    strict: bool = False


def test_settings_take_known_keys_of_the_right_type():
    given = {"metric": "x", "share": 1, "count": 3, "strict": True}
    assert settings.parse(Example, given) == Example("a", 1, 3, strict=True)
    for given, message in (
        ({"shares": 1}, "shares: unknown setting; allowed: name, share, count, strict"),
        ({"count": 1.5}, "count: found 1.5, expected int"),
        ({"count": True}, "count: found True, expected int"),
        ({"strict": 1}, "strict: found 1, expected bool"),
        ({"name": None}, "name: found None, expected str"),
    ):
        with pytest.raises(InputError) as error:
            settings.parse(Example, given)
        assert str(error.value) == message


def text(name: str, n_bytes: int) -> Text:
    return Text(name, "test", "en", "".join(chr(ord("a") + i % 26) for i in range(n_bytes)))


def test_windows_have_the_length_asked_for_and_first_ones_come_first():
    tokenizer = make_tokenizer()  # one token a byte
    found = windows(tokenizer, [text("a", 25), text("b", 30)], 10, 99)
    assert [window.item for window in found] == ["a:0", "b:0", "a:1", "b:1", "b:2"]
    assert all(len(window.ids) == 10 for window in found)
    assert tokenizer.decode(found[2].ids) == text("a", 25).text[10:20]
    assert windows(tokenizer, [text("a", 25), text("b", 30)], 10, 3) == found[:3]


def test_short_texts_are_joined():
    tokenizer = make_tokenizer()
    (window,) = windows(tokenizer, [text("a", 6), text("b", 6), text("c", 6)], 10, 99)
    assert window.item == "a+b:0"
    assert tokenizer.decode(window.ids) == "abcdef\n\nab"
    with pytest.raises(InputError, match="text_tokens: found 99, but all texts together have 22 tokens"):
        windows(tokenizer, [text("a", 6), text("b", 6), text("c", 6)], 99, 99)


def test_every_window_begins_with_bos_where_the_tokenizer_puts_it():
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer()
    tokenizer.bos_token = "<|im_start|>"
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", bos)]
    )
    found = windows(tokenizer, [text("a", 25)], 10, 99)
    assert [window.ids[0] for window in found] == [bos, bos]
    assert tokenizer.decode(found[1].ids[1:]) == text("a", 25).text[9:18]


def test_tables_hold_every_value_once():
    values = np.array([[1.0, 2.0, np.nan], [3.0, 6.0, np.nan]])
    profile = tables.mean_profile(values, seed=0)
    assert list(profile) == ["layer", "value", "ci_low", "ci_high", "n"]
    assert profile["value"].tolist()[:2] == [2.0, 4.0]
    assert profile["n"].tolist() == [2, 2, 0]
    assert profile.loc[2, ["value", "ci_low", "ci_high"]].isna().all()
    rows = tables.variant_rows("v", ["x", "y"], values, kv_head=3)
    assert list(rows) == ["variant", "item", "layer", "kv_head", "value"]
    assert rows[rows["item"] == "y"]["value"].tolist()[:2] == [3.0, 6.0]
    assert set(rows["kv_head"]) == {3}


def test_bootstrap_interval_is_that_of_the_mean():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(400, 3)) * [1, 2, 4] + [0, 10, 20]
    low, high = bootstrap_mean(values, seed=0)
    expected = 1.96 * values.std(axis=0) / np.sqrt(400)
    np.testing.assert_allclose((high - low) / 2, expected, rtol=0.1)
    np.testing.assert_allclose((high + low) / 2, values.mean(axis=0), atol=0.3 * expected.max())
    np.testing.assert_array_equal(bootstrap_mean(values, seed=0), (low, high))
    assert not np.array_equal(bootstrap_mean(values, seed=1)[0], low)
    assert np.isnan(bootstrap_mean(values[:1], seed=0)).all()


def test_half_sampling_has_the_spread_of_the_full_sample():
    values = np.random.default_rng(2).normal(size=(200, 2)) * [1, 3]
    low, high = half_sampling(lambda chosen: values[chosen].mean(axis=0), 200, seed=0, draws=2000)
    np.testing.assert_allclose((high - low) / 2, 1.96 * values.std(axis=0) / np.sqrt(200), rtol=0.1)
    assert ((low < values.mean(axis=0)) & (values.mean(axis=0) < high)).all()
