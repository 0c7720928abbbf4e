"""Layer states to test the metrics against: one text at a time, float64, transformers' own hidden states."""

import numpy as np
import torch

from colocate.models import load_model
from colocate.pairs import Pair, Paraphrase
from tiny import make_tokenizer

PAIRS = [
    Pair("sum-1", "arithmetic", "en", "2 + 2 =", " 4", " 5", " 6"),
    Pair("sum-2", "arithmetic", "en", "2 + 3 =", " 5", " 4", " 7"),
    Pair("city-1", "world", "en", "The capital of France is", " Paris", " Rome", " Berlin"),
    Pair("city-2", "world", "en", "The capital of Italy is", " Rome", " Paris", " Madrid"),
    Pair("small", "world", "de", "Kleiner als zwei ist nur", " eins", " drei", " acht"),
    Pair("sea", "world", "en", "Whales live in the", " sea", " sky", " sun"),
    Pair("sky", "world", "en", "Swallows fly in the", " air", " sea", " ice"),
]
SAME = [Paraphrase("even", "arithmetic", "en", "An even number is", " 4", " 6")]
DATA = {"pairs": PAIRS, "paraphrases": SAME, "texts": []}
RIGHT = [(row.prompt, row.correct) for row in (*PAIRS, *SAME)]
IDS = [row.id for row in (*PAIRS, *SAME)]


def float64_model(folder):
    return load_model(folder, "float32", "cpu").double()


@torch.no_grad()
def layer_states(model, prompt: str, answer: str) -> tuple[np.ndarray, int]:
    """(L + 1, T, D): the embedding, then each layer's output; and the index of the answer's first token.

    The tiny tokenizer has one token a byte. The last hidden state is taken before the final norm.
    """
    ids = make_tokenizer()(prompt + answer)["input_ids"]
    assert len(ids) == len((prompt + answer).encode())
    norm, model.model.norm = model.model.norm, torch.nn.Identity()
    output = model(torch.tensor([ids]), output_hidden_states=True)
    model.model.norm = norm
    return torch.cat(output.hidden_states).numpy(), len(prompt.encode())


def pooled(states: np.ndarray, start: int, pool: str) -> np.ndarray:
    """(L + 1, T, D) to (L + 1, D)."""
    return states[:, {"all": 0, "skip_first": 1, "answer": start}[pool] :].mean(axis=1)


def variant(profile, name: str) -> np.ndarray:
    """(items, L) in the order of the table's items."""
    rows = profile.variants[profile.variants["variant"] == name]
    return rows.pivot(index="item", columns="layer", values="value").loc[list(dict.fromkeys(rows["item"]))].to_numpy()
