"""Cosine of the states that enter and leave layer l: 1 where the layer hardly turns anything.

Formula   mean over the tokens t of a text of cos(x_t, y_t), x and y the input and output of layer l; mean over texts
Source    arXiv:2610.11620 (LoRA on the layers where this is lowest). One minus it is the Block Influence of Men et al.
          2024, arXiv:2403.03853.

Texts: prompt + right answer of all pairs and paraphrases; item = the row's id. Variants: which tokens count, `all`,
`skip_first` (without token 0, an attention sink) and `answer`.
"""

import numpy as np
import torch

from colocate.files import Progress, silent
from colocate.pairs import encode
from colocate.profiles import Profile, tables
from colocate.profiles.capture import POOLS, first, forwards, hidden_input, right_texts
from colocate.profiles.settings import Pooled, parse

TOKEN_POOLS = POOLS[:3]


class Settings(Pooled):
    pools = TOKEN_POOLS


def compute(model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile, items (texts) and variants."""
    chosen = parse(Settings, settings)
    rows = right_texts(data)
    encoded = [encode(tokenizer, row.prompt, row.correct) for row in rows]
    values = np.empty((len(TOKEN_POOLS), len(rows), model.config.get_text_config().num_hidden_layers))
    for batch in forwards(model, encoded, chosen.batch_tokens, progress):
        cosines = [
            torch.cosine_similarity(hidden_input(call).float(), first(call[2]).float(), dim=2) for call in batch.calls
        ]
        means = torch.einsum("bpt,lbt->pbl", batch.weights(), torch.stack(cosines))
        values[:, batch.rows] = means.cpu().numpy()
    ids = [row.id for row in rows]
    return tables.of_items(
        {pool: (ids, table) for pool, table in zip(TOKEN_POOLS, values, strict=True)}, chosen.pool, chosen.seed
    )
