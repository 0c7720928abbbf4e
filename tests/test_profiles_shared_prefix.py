"""Texts that share their prompt's tokens in a forward have the states that they have alone, in every family."""

import numpy as np
import pytest
import torch

from colocate.profiles.capture import pooled_states
from colocate.profiles.shared_prefix import SHARED, can_share, inputs_of, rows_of
from families import EAGER_ONLY, FAMILIES, build

TEXTS = [
    ("two and two", " four"),
    ("two and two", " five"),
    ("two and two", " fo"),  # nothing of its own
    ("two and two", " six"),
    ("a sea", " of sand"),
    ("two and two", " four"),  # not a neighbour: a row of its own
]
LONGEST = 16  # some families compute another RoPE beyond it


class Letters:
    """One token a character, without special tokens."""

    def __call__(self, text: str, return_offsets_mapping: bool = True) -> dict:
        ids = [3 + ord(letter) % 90 for letter in text]
        return {"input_ids": ids, "offset_mapping": [(place, place + 1) for place in range(len(text))]}


def test_a_row_holds_the_prompt_once():
    encoded = [[7, 8, 9, 1, 2], [7, 8, 9, 1, 3, 4], [7, 8, 9, 1]]
    (row,) = rows_of(encoded, ["p", "p", "p"], share=True)
    assert row.ids == [7, 8, 9, 1, 2, 3, 4]
    assert row.positions == [0, 1, 2, 3, 4, 4, 5]
    assert row.owners == [SHARED] * 4 + [0, 1, 1]
    assert [[row.ids[place] for place in places] for places in row.places] == encoded
    mask = inputs_of([row], torch.float32, "cpu")["attention_mask"][0, 0] == 0
    seen = [torch.nonzero(line).flatten().tolist() for line in mask]
    assert seen[4:] == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 5], [0, 1, 2, 3, 5, 6]]
    assert [row.texts for row in rows_of(encoded, ["p", "q", "q"], share=True)] == [[0], [1, 2]]
    assert [row.texts for row in rows_of(encoded, ["p", "p", "p"], share=False)] == [[0], [1], [2]]


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_states_are_those_of_each_text_alone(family):
    attention = "eager" if family in EAGER_ONLY else "sdpa"
    model = build(family, attention=attention)
    together = pooled_states(model, Letters(), TEXTS, 1000)
    alone = np.concatenate([pooled_states(model, Letters(), [text], 1000) for text in TEXTS])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-4 * np.abs(alone).max())
    assert can_share(model, LONGEST) == ("sliding_window" not in FAMILIES[family][1])


def test_identical_texts_have_identical_states(tiny_llama):
    from colocate.models import load_model
    from tiny import make_tokenizer

    model = load_model(tiny_llama, "float32", "cpu")
    one, other = pooled_states(model, make_tokenizer(), [TEXTS[0], TEXTS[0]], 1000)
    np.testing.assert_array_equal(one, other)


def test_a_model_without_rope_runs_text_by_text():
    from transformers import OPTConfig, OPTForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = OPTForCausalLM(OPTConfig(vocab_size=96, word_embed_proj_dim=32, **sizes)).eval()
    assert not can_share(model, LONGEST)
    together = pooled_states(model, Letters(), TEXTS, 1000)
    alone = np.concatenate([pooled_states(model, Letters(), [text], 1000) for text in TEXTS])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-5)
