"""A live transformers model (plain or with a PEFT adapter) behind lm-evaluation-harness, with shared beginnings.

`LiveModel` answers what the harness asks: log-likelihoods (colocate.evaluation.scoring), greedy answers (generation)
and chat templates. Texts become tokens, and long contexts are cut on the left, as the harness's own HFLM does it, so
that both ask the model the same questions. Both give the same numbers up to rounding.

Whether a model can be run row by row in this way is tried out once, on a few tokens, against a plain forward pass.
Where they disagree (recurrent layers, attention in chunks, frequencies that change with the length of a batch), and
for tasks that sample, HFLM does the work, one request at a time.

Source: lm-eval 0.4.13, lm_eval/api/model.py and lm_eval/models/huggingface.py.
"""

import functools
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator

import torch
from lm_eval.api.model import TemplateLM

from colocate.evaluation.generation import Prompt, Writer
from colocate.evaluation.passes import KINDS, Passes
from colocate.evaluation.prefixes import TokenBudget
from colocate.evaluation.scoring import score, score_rows, trees
from colocate.evaluation.slots import Prefix
from colocate.files import silent

BATCH_TOKENS = 16384
ANSWER_TOKENS = 256  # the harness's default length of an answer
UNSTEADY = {"dynamic", "longrope"}  # kinds of RoPE whose frequencies follow the longest row of a batch
log = logging.getLogger(__name__)


class LiveModel(TemplateLM):
    """`model`: a causal language model in eval mode. A batch has at most `batch_size` rows and `batch_tokens` tokens.

    `progress`: share done, note. `budget` tells what is left of `batch_tokens` after memory ran out.
    """

    def __init__(
        self,
        model,
        tokenizer,
        batch_size: int,
        progress: Callable[[float, str], None] = silent,
        *,
        batch_tokens: int = BATCH_TOKENS,
    ):
        super().__init__()
        self.model, self.tokenizer, self.batch_size, self.progress = model, tokenizer, batch_size, progress
        self.budget = TokenBudget(batch_tokens)
        self.passes = Passes(model)
        self._device = self.passes.device
        self._prefixes: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()
        self._encoded = functools.lru_cache(maxsize=4096)(self._encode)
        reason = disagreement(self.passes)
        log.info("first forward pass done%s", f"; one request at a time: {reason}" if reason else "")
        self.reason, self.stock = reason, self._stock() if reason else None

    @property
    def record(self) -> dict:
        """What a run record should know: see colocate.evaluation.evaluate."""
        budget = {"batch_tokens": self.budget.tokens, "batch_tokens_halved": self.budget.halved}
        return budget | {"one_request_at_a_time": self.reason}

    # ------------------------------------------------------------------------------------------------ log-likelihoods

    def loglikelihood(self, requests, disable_tqdm: bool = True):
        """(log-probability in nats of the continuation after its context, is it the greedy one?) of each request."""
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = True) -> list[float]:
        """Log-probability in nats of each whole text, in windows of the model's length."""
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        found, owners = [], []
        for number, request in enumerate(requests):
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            pairs = [make_disjoint_window(window) for window in windows]
            found += [(("", ""), context, continuation) for context, continuation in pairs]
            owners += [number] * len(pairs)
        totals = [0.0] * len(requests)
        for number, (logprob, _) in zip(owners, self._loglikelihood_tokens(found), strict=True):
            totals[number] += logprob
        return totals

    def _loglikelihood_tokens(self, requests, **options):
        """`requests`: (strings, context ids, continuation ids). Returns (log-probability, greedy?) of each."""
        if self.stock is not None:
            return self.stock._loglikelihood_tokens(requests, disable_tqdm=True)
        pairs = [
            (tuple(context[-max(1, self.max_length + 1 - len(continuation)) :]), tuple(continuation))
            for _, context, continuation in requests
        ]
        return score(
            self.passes, pairs, self.batch_size, self.budget, self._prefix, self._progress_of("log-likelihoods")
        )

    # ----------------------------------------------------------------------------------------------------- generation

    def generate_until(self, requests, disable_tqdm: bool = True) -> list[str]:
        """The answer to each request, up to its first stop string."""
        from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

        eos = self.tok_decode([self.eot_token_id], skip_special_tokens=False)
        prompts, sampled = [], []
        for index, request in enumerate(requests):
            options = normalize_gen_kwargs(request.args[1], ANSWER_TOKENS)
            sampled += [index] * bool(options.get("do_sample"))
            room = options["max_gen_toks"]
            stop = tuple(word for word in handle_stop_sequences(options.get("until"), eos=eos) if word)
            ids = self.tok_encode(request.args[0])[-max(1, self.max_length - room) :]
            prompts.append(Prompt(tuple(ids), room, stop))
        if self.stock is not None or sampled:
            return (self.stock or self._stock()).generate_until(requests, disable_tqdm=True)
        writer = Writer(self.passes, functools.partial(self.tok_decode, skip_special_tokens=False), self._ends())
        written = writer.write(prompts, self.batch_size, self.budget, self._prefix, self._progress_of("answers"))
        return [
            postprocess_generated_text(self.tok_decode(ids), stop=list(prompt.stop), think_end_token=None)
            for ids, prompt in zip(written, prompts, strict=True)
        ]

    def _ends(self) -> set[int]:
        """The end token, and those that the model's generation config names."""
        named = getattr(getattr(self.passes.base, "generation_config", None), "eos_token_id", None)
        return {self.eot_token_id, *(named if isinstance(named, list) else [named])} - {None}

    # ------------------------------------------------------------------------------------------------ shared by both

    def _prefix(self, ids: tuple[int, ...]) -> Prefix:
        """Computed, or remembered: answers and log-probabilities are asked of the same prompts, one after the other."""
        if ids not in self._prefixes:
            room = self.budget.tokens // 2
            while self._prefixes and sum(map(len, self._prefixes)) + len(ids) > room:
                self._prefixes.popitem(last=False)
            self._prefixes[ids] = self.passes.prefix(ids)
        return self._prefixes[ids]

    def _progress_of(self, note: str) -> Callable[[float], None]:
        return lambda share: self.progress(share, note)

    def _stock(self):
        """The harness's own backend on the same model: heavy to import, so only where it is needed."""
        from lm_eval.models.huggingface import HFLM

        return HFLM(
            pretrained=self.model, tokenizer=self.tokenizer, backend="causal", batch_size=1, softmax_dtype="float32"
        )

    # ------------------------------------------------------------------------------------ tokens and text, as HFLM does

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **options) -> list[int]:
        """Ids of a text; a text that begins with the tokenizer's first token gets no second one."""
        return list(self._encoded(string, add_special_tokens))

    def _encode(self, string: str, add_special_tokens: bool | None) -> tuple[int, ...]:
        if add_special_tokens is None and string.startswith(self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return tuple(self.tokenizer.encode(string, **special))

    def tok_decode(self, tokens: list[int], skip_special_tokens: bool = True) -> str:
        """Text of ids."""
        return self.tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens)

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without a context."""
        return self.eot_token_id if self.tokenizer.bos_token_id is None else self.tokenizer.bos_token_id

    @property
    def max_length(self) -> int:
        """Tokens that the model takes."""
        from lm_eval.models.utils import resolve_max_length

        return resolve_max_length(self.model.config, self.tokenizer)

    @property
    def max_gen_toks(self) -> int:
        """Tokens of an answer, where a task does not say."""
        return ANSWER_TOKENS

    @property
    def tokenizer_name(self) -> str:
        """For the harness's fingerprints of requests."""
        return self.tokenizer.name_or_path.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template that `apply_chat_template` uses."""
        return self.tokenizer.chat_template if chat_template else ""

    def apply_chat_template(self, chat_history: list[dict], add_generation_prompt: bool = True) -> str:
        """A conversation as text; a template that knows no system role gets none."""
        import jinja2

        options = {"add_generation_prompt": add_generation_prompt, "continue_final_message": not add_generation_prompt}
        try:
            return self.tokenizer.apply_chat_template(chat_history, tokenize=False, **options)
        except jinja2.exceptions.TemplateError:
            turns = [turn for turn in chat_history if turn["role"] != "system"]
            if len(turns) == len(chat_history):
                raise
            log.warning("the chat template takes no system role: it is left out")
            return self.tokenizer.apply_chat_template(turns, tokenize=False, **options)


# Nats by which log-probabilities of a short continuation may differ between two ways of running the same model. Likely
# tokens are compared: rounding to bfloat16 moves theirs by up to 0.3 in SmolLM2 with an adapter, a wrong context by 5.
# Those of arbitrary tokens, at -60, move by up to 0.7 through rounding, and a wrong context is no further away.
EXACT, ROUNDED = 1e-3, 1.0


def disagreement(passes: Passes) -> str:
    """Why rows of slots cannot be used with this model; empty where they agree with plain forward passes.

    Tried, in the model's own precision: two trees of different lengths after a shared beginning, each with two
    continuations that plain forward passes find most likely.
    """
    unknown = passes.kinds - KINDS
    if unknown:
        return f"attention of kind {', '.join(sorted(unknown))}"
    rope = getattr(passes.config, "rope_parameters", None) or {}
    unsteady = {rope.get("rope_type"), *(part.get("rope_type") for part in rope.values() if isinstance(part, dict))}
    if unsteady & UNSTEADY:
        return f"{', '.join(unsteady & UNSTEADY)} RoPE depends on the longest row of a batch"
    size = passes.base.get_output_embeddings().weight.shape[0]
    first, rests = tuple(7919 * place % size for place in range(1, 17)), ((11, 12, 13), (14,))
    likely = [(first + rest, *found) for rest in rests for found in _continuations(passes, first + rest)]
    requests, expected = [(context, ids) for context, ids, _ in likely], [logprob for *_, logprob in likely]
    try:
        rows = score_rows(passes, trees(requests), passes.prefix(first))
    except (TypeError, AttributeError, LookupError, ValueError, NotImplementedError) as error:
        return f"{type(error).__name__}: {error}"
    found = [logprob for row in rows for logprob, _ in row]
    worst = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    allowed = EXACT if passes.base.dtype in (torch.float32, torch.float64) else ROUNDED
    return "" if worst <= allowed else f"log-probabilities differ by {worst:.2g} nat from a plain forward pass"


@torch.inference_mode()
def _continuations(passes: Passes, context: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], float]]:
    """(ids, log-probability) by plain forward passes: the likeliest token and two after it, the second and one more."""

    def logprobs(ids):
        row = torch.tensor([[*context, *ids]], device=passes.device)
        return passes.model(input_ids=row, use_cache=False).logits[0, -1].float().log_softmax(-1)

    best = logprobs(()).topk(2)
    for token, logprob, length in zip(best.indices.tolist(), best.values.tolist(), (3, 2), strict=True):
        ids = [token]
        while len(ids) < length:
            value, after = logprobs(ids).max(0)
            ids.append(int(after))
            logprob += float(value)
        yield tuple(ids), logprob
