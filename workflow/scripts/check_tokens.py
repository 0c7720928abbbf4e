"""Check that pairs and texts fit a model's context, and that its tokens tell the answers apart."""

from colocate import files, geometry, models, pairs
from colocate.errors import InputError
from colocate.provenance import Job

with Job(__doc__, inputs="model pairs* paraphrases texts", outputs="report") as job:
    folder, limit = job.input.model.parent, job.settings["limit"]
    tasks = pairs.read_pairs(job.input.pairs)[:limit]
    controls = pairs.read_paraphrases(job.input.paraphrases)[:limit]
    texts = pairs.read_texts(job.input.texts)
    tokenizer, context = models.load_tokenizer(folder), geometry.context_length(folder)
    problems = pairs.check_tokens([*tasks, *controls], tokenizer, context)
    problems += pairs.check_windows(texts, tokenizer, job.settings.get("text_tokens", ()), context)
    if problems:
        raise InputError(f"{len(problems)} problems with the tokens of {folder.name}:\n" + "\n".join(problems))
    report = {
        "context": context,
        "pairs": pairs.count_tokens(tasks, tokenizer),
        "paraphrases": pairs.count_tokens(controls, tokenizer),
        "texts": {text.id: len(tokenizer(text.text)["input_ids"]) for text in texts},
    }
    files.write_json(job.out.report, report)
