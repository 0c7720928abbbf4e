"""A live transformers model (plain or with a PEFT adapter) behind lm-evaluation-harness, with shared prefixes.

`LiveModel` is the harness's own HFLM (tokenization, chat templates, truncation, bookkeeping) with two computations
replaced:

- log-likelihoods  log p(continuation | context) = sum_t log softmax(z_t)[y_t]. Requests are grouped by context: a
  context is run once and its key-value cache serves all its continuations; a prefix that all contexts share (few-shot
  examples) is run once.
- greedy generation  y_t = argmax z_t, with the same shared prefix; rows that have met a stop string leave the batch.

Both give the same numbers as one request at a time, up to rounding. The output head computes in float32 whatever the
model's dtype is: bfloat16 logits lie on a grid of 1/8 between 16 and 32, enough to tie two answers.

Rows of a batch, P prefix tokens, C the longest rest of a context, N the longest continuation:

    cache     [ prefix (P) | padding, rest of the context (C) | continuation, padding (N) ]
    position    0 .. P-1     - ..     P ..                      P + length of the rest ..

Padding inside a row moves cache slots against positions, which a sliding-window mask would count: models with such
layers share no prefix, and left padding alone keeps distances. Source: lm-eval 0.4.13, lm_eval/models/huggingface.py.
"""

import copy
from collections.abc import Callable

import torch
from lm_eval.models.huggingface import HFLM
from transformers import DynamicCache

from colocate.files import silent

SHORTEST_PREFIX = 8  # tokens; below that, sharing saves nothing
BEGINNING, SMALLEST_FAMILY = 32, 4  # contexts with the same first tokens form a family, if there are enough of them


class LiveModel(HFLM):
    """`model`: a causal language model in eval mode; `batch_size`: contexts a batch; `progress`: share done, note."""

    def __init__(self, model, tokenizer, batch_size: int, progress: Callable[[float, str], None] = silent):
        super().__init__(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch_size)
        _compute_head_in_float32(model)
        self.progress = progress
        self.shares_prefix = all(kind == "full_attention" for kind in _layer_types(model.config))
        self.prefix: tuple[tuple, DynamicCache | None] = (), None

    # ------------------------------------------------------------------------------------------------ log-likelihoods

    def loglikelihood(self, requests, disable_tqdm: bool = True):
        """(log-probability in nats of the continuation after its context, is it the greedy one?) of each request."""
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    @torch.inference_mode()
    def _loglikelihood_tokens(self, requests, disable_tqdm: bool = False, override_bs: int | None = None):
        """`requests`: (strings, context ids, continuation ids). Returns (log-probability, greedy?) of each."""
        by_context: dict[tuple, list[int]] = {}
        for index, (_, context, continuation) in enumerate(requests):
            room = max(1, self.max_length + 1 - len(continuation))
            by_context.setdefault(tuple(context[-room:]), []).append(index)
        answers: list = [None] * len(requests)
        for batch, prefix in self._batches(list(by_context), override_bs or self.batch_size):
            indices = [by_context[context] for context in batch]
            continuations = [[requests[index][2] for index in group] for group in indices]
            for group, results in zip(indices, self._score(batch, continuations, prefix), strict=True):
                for index, result in zip(group, results, strict=True):
                    answers[index] = result
            self.progress(1 - answers.count(None) / len(answers), "log-likelihoods")
        return answers

    def _score(self, contexts, continuations, prefix) -> list[list[tuple[float, bool]]]:
        """Scores of the continuations (lists of ids) of each context."""
        first, cache, mask, lengths = self._run_contexts(contexts, prefix)
        owner = [row for row, group in enumerate(continuations) for _ in group]
        flat = [ids for group in continuations for ids in group]
        longest = max(map(len, flat))
        targets = torch.zeros(len(flat), longest, dtype=torch.long, device=self.device)
        valid = torch.zeros(len(flat), longest, dtype=torch.bool, device=self.device)
        for row, ids in enumerate(flat):
            targets[row, : len(ids)] = torch.tensor(ids)
            valid[row, : len(ids)] = True
        rows = torch.tensor(owner, device=self.device)
        logits = first[rows].unsqueeze(1)
        if longest > 1:  # the context predicts the first token of each; all but the last predict the rest
            cache.batch_select_indices(rows)
            steps = torch.arange(longest - 1, device=self.device)
            later = self.model(
                input_ids=targets[:, :-1],
                attention_mask=torch.cat([mask[rows], valid[:, :-1].long()], dim=1),
                position_ids=lengths[rows].unsqueeze(1) + steps,
                past_key_values=cache,
                use_cache=True,
            ).logits
            logits = torch.cat([logits, later], dim=1)
        chosen = logits.gather(2, targets.unsqueeze(2)).squeeze(2) - logits.logsumexp(2)
        total = (chosen.double() * valid).sum(1).tolist()
        greedy = ((logits.argmax(2) == targets) | ~valid).all(1).tolist()
        results = iter(zip(total, greedy, strict=True))
        return [[next(results) for _ in group] for group in continuations]

    # ----------------------------------------------------------------------------------------------------- generation

    @torch.inference_mode()
    def generate_until(self, requests, disable_tqdm: bool = True):
        """The answer to each request, families of contexts one after the other."""
        contexts = [tuple(self.tok_encode(request.args[0])) for request in requests]
        answers: list = [None] * len(requests)
        for family in _families(contexts):
            self.prefix = self._prefix([contexts[index] for index in family])
            texts = super().generate_until([requests[index] for index in family], disable_tqdm=disable_tqdm)
            for index, text in zip(family, texts, strict=True):
                answers[index] = text
            self.progress(1 - answers.count(None) / len(answers), "answers")
        return answers

    @torch.inference_mode()
    def _model_generate(self, context, max_length: int, stop: list[str], **options):
        """`context` (B, C) ids, padded on the left as `attention_mask` says; returns (B, C + new) ids, greedy.

        A sampling task (`do_sample`, a temperature) is left to the stock implementation.
        """
        if options.get("do_sample") or options.get("temperature"):
            return super()._model_generate(context, max_length, stop, **options)
        masks = options["attention_mask"].bool()
        contexts = [tuple(row[keep].tolist()) for row, keep in zip(context, masks, strict=True)]
        fits = all(ids[: len(self.prefix[0])] == self.prefix[0] and len(ids) > len(self.prefix[0]) for ids in contexts)
        logits, cache, mask, lengths = self._run_contexts(contexts, self.prefix if fits else ((), None))
        written: list[list[int]] = [[] for _ in contexts]
        rows = list(range(len(contexts)))
        for step in range(max_length - context.shape[1]):
            tokens = logits.argmax(1)
            for row, token in zip(rows, tokens.tolist(), strict=True):
                written[row].append(token)
            going = [place for place, row in enumerate(rows) if not self._stopped(written[row], stop)]
            rows = [rows[place] for place in going]
            if not rows or step == max_length - context.shape[1] - 1:
                break
            keep = torch.tensor(going, device=self.device)
            if len(going) < len(tokens):
                cache.batch_select_indices(keep)
            mask = torch.cat([mask[keep], mask.new_ones(len(rows), 1)], dim=1)
            lengths = lengths[keep]
            logits = self.model(
                input_ids=tokens[keep].unsqueeze(1),
                attention_mask=mask,
                position_ids=lengths.unsqueeze(1),
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
            lengths = lengths + 1
        longest = max(map(len, written))
        padded = [ids + [self.eot_token_id] * (longest - len(ids)) for ids in written]
        return torch.cat([context, torch.tensor(padded, device=context.device)], dim=1)

    def _stopped(self, ids: list[int], stop: list[str]) -> bool:
        """Stop strings may end in the middle of a token, so text is compared; the end token counts as itself."""
        if ids[-1] == self.eot_token_id:
            return True
        text = self.tok_decode(ids, skip_special_tokens=False)
        return any(word in text for word in stop)

    # ------------------------------------------------------------------------------------------------ shared by both

    def _batches(self, contexts: list[tuple], size: int):
        """Batches of contexts of like length, longest first, each with the prefix that its family shares."""
        for family in _families(contexts):
            members = sorted((contexts[index] for index in family), key=lambda ids: (-len(ids), ids))
            prefix = self._prefix(members)
            for start in range(0, len(members), size):
                yield members[start : start + size], prefix

    def _prefix(self, contexts) -> tuple[tuple, DynamicCache | None]:
        """(ids, key-value cache) of what all contexts begin with; empty where sharing is of no use or not exact."""
        low, high = min(contexts), max(contexts)  # in lexicographic order: what these two share, all share
        shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
        shared = min(shared, min(map(len, contexts)) - 1)  # each context keeps a token of its own to predict from
        if not self.shares_prefix or len(contexts) < 2 or shared < SHORTEST_PREFIX:
            return (), None
        cache = DynamicCache(config=self.model.config)
        ids = torch.tensor([low[:shared]], device=self.device)
        self.model(
            input_ids=ids, attention_mask=torch.ones_like(ids), past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return low[:shared], cache

    def _run_contexts(self, contexts, prefix):
        """Returns the last logits (B, V), the cache, its mask (B, slots) and the contexts' lengths (B,) in tokens."""
        begin, begin_cache = prefix
        rest = [context[len(begin) :] for context in contexts]
        longest = max(map(len, rest))
        pad = torch.tensor([longest - len(ids) for ids in rest], device=self.device).unsqueeze(1)
        ids = torch.tensor([[self.eot_token_id] * (longest - len(ids)) + list(ids) for ids in rest], device=self.device)
        columns = torch.arange(longest, device=self.device)
        own = (columns >= pad).long()
        mask = torch.cat([own.new_ones(len(rest), len(begin)), own], dim=1)
        if begin_cache is None:
            cache = DynamicCache(config=self.model.config)
        else:
            cache = copy.deepcopy(begin_cache)
            cache.batch_repeat_interleave(len(rest))
        logits = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(len(begin) + columns - pad).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        lengths = torch.tensor([len(context) for context in contexts], device=self.device)
        return logits, cache, mask, lengths


def _families(contexts: list[tuple]) -> list[list[int]]:
    """Indices of contexts that begin alike (examples of one language or subject); small families are put together."""
    alike: dict[tuple, list[int]] = {}
    for index, context in enumerate(contexts):
        alike.setdefault(context[:BEGINNING], []).append(index)
    families = [family for family in alike.values() if len(family) >= SMALLEST_FAMILY]
    rest = sorted(index for family in alike.values() if len(family) < SMALLEST_FAMILY for index in family)
    return families + [rest] if rest else families


def _layer_types(config) -> list[str]:
    """Attention kinds of the layers; a config that lists none but names a window is taken to slide."""
    config = config.get_text_config()
    listed = getattr(config, "layer_types", None)
    if listed:
        return list(listed)
    return ["sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"]


def _compute_head_in_float32(model) -> None:
    """Give the model a float32 copy of its output head (untied from the embedding) and cast what goes in.

    A scale or soft cap that an architecture applies to its logits comes after the head, so it computes in float32 too.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = base.get_output_embeddings()
    if head.weight.dtype == torch.float32:
        return
    exact = torch.nn.Linear(head.in_features, head.out_features, bias=head.bias is not None, device="meta")
    exact.weight = torch.nn.Parameter(head.weight.detach().float(), requires_grad=False)
    if head.bias is not None:
        exact.bias = torch.nn.Parameter(head.bias.detach().float(), requires_grad=False)
    exact.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    base.set_output_embeddings(exact)
