"""Faults of the loop, the rows, the stops and the record."""

from tests.mutants.mutant import Mutant

ROWS, STOPS = "jaxdec/decoding/rows.py", "jaxdec/decoding/stops.py"
RECORD, LOOP = "jaxdec/decoding/record.py", "jaxdec/decoding/loop.py"
PREFILL = "jaxdec/decoding/prefill.py"

MUTANTS = [
    Mutant(
        "length instead of eos",
        ROWS,
        "(ends.eos + 1 == taken,",
        "((ends.eos + 1 == taken) & (length - self.prompt_length < settings.max_new_tokens),",
        "an EOS on the last allowed token is reported as LENGTH",
    ),
    Mutant(
        "length instead of stop sequence",
        ROWS,
        "(ends.stop + 1 == taken,",
        "((ends.stop + 1 == taken) & (length - self.prompt_length < settings.max_new_tokens),",
        "a stop sequence that ends on the last allowed token is reported as LENGTH",
    ),
    Mutant(
        "stop sequence instead of eos",
        ROWS,
        "(ends.eos + 1 == taken,",
        "((ends.eos + 1 == taken) & (ends.eos != ends.stop),",
        "where an EOS completes a stop sequence the wrong one of them is reported",
    ),
    Mutant(
        "stop in the prompt",
        STOPS,
        "(equal.all(-1) & inside)",
        "equal.all(-1)",
        "a stop sequence that begins inside the prompt ends the row",
    ),
    Mutant(
        "stop lacks its first token",
        STOPS,
        "< (width - self.lengths)",
        "<= (width - self.lengths)",
        "the first token of a stop sequence is not compared",
    ),
    Mutant(
        "stop window one early",
        ROWS,
        "self.window(self.length - tail, tail)",
        "self.window(self.length - tail - 1, tail)",
        "a stop sequence that spans two steps is compared with the wrong tokens",
    ),
    Mutant(
        "cache full one step late",
        ROWS,
        "room - taken < chunk.shape[1]",
        "room - taken < chunk.shape[1] - 1",
        "a row goes on although its cache cannot take another step",
    ),
    Mutant(
        "cache full one step early",
        ROWS,
        "room - taken < chunk.shape[1]",
        "room - taken < chunk.shape[1] + 1",
        "a row ends although its cache could take another step",
    ),
    Mutant(
        "buffer full one token late",
        ROWS,
        "(length >= self.tokens.shape[1],",
        "(length > self.tokens.shape[1],",
        "a row whose buffer is full goes on",
    ),
    Mutant(
        "no budget still runs",
        ROWS,
        "request.settings.max_new_tokens > 0",
        "request.settings.max_new_tokens >= 0",
        "a row that may emit nothing runs a step",
    ),
    Mutant(
        "ended rows advance",
        ROWS,
        "offered = jnp.where(self.running, count, 0)",
        "offered = count",
        "rows that have ended go on emitting",
    ),
    Mutant(
        "ended rows count rounds",
        ROWS,
        "self.rounds + self.running",
        "self.rounds + 1",
        "rows that have ended still count steps",
    ),
    Mutant(
        "ended rows revive",
        ROWS,
        "jnp.where(self.running, status, self.status)",
        "jnp.where(self.running | (status > 0), status, self.status)",
        "the status of a row that has ended changes",
    ),
    Mutant(
        "stop token dropped",
        ROWS,
        "jnp.minimum(self.eos, self.stop) + 1",
        "jnp.minimum(self.eos, self.stop)",
        "the token that ends a row is not kept",
    ),
    Mutant(
        "one token past the budget",
        ROWS,
        "settings.max_new_tokens - generated,",
        "settings.max_new_tokens - generated + 1,",
        "a chunk is cut one token after the budget",
    ),
    Mutant(
        "broken law at the end of a chunk",
        ROWS,
        "(ends.fault == taken) & (ends.fault < offered)",
        "(ends.fault == taken)",
        "a whole chunk looks like a broken law",
    ),
    Mutant(
        "history counts one token more",
        ROWS,
        "jnp.arange(chunk.shape[1]) < taken[:, None])",
        "jnp.arange(chunk.shape[1]) <= taken[:, None])",
        "the penalties count a token that was not committed",
    ),
    Mutant(
        "history forgets the last prompt token",
        ROWS,
        "History.start(request.prompt, request.lengths,",
        "History.start(request.prompt, request.lengths - 1,",
        "the repetition penalty does not see the last token of the prompt",
    ),
    Mutant(
        "steps counted from one",
        RECORD,
        "(info.steps + 1)",
        "(info.steps + 2)",
        "the record says that tokens were chosen a step later",
    ),
    Mutant(
        "counts of the last step only",
        RECORD,
        "getattr(stats, field.name) + getattr(info, field.name)",
        "getattr(info, field.name)",
        "the record forgets the counts of earlier steps",
    ),
    Mutant(
        "one step more than asked for",
        LOOP,
        "step < max_steps",
        "step <= max_steps",
        "a bounded run takes one step too many",
    ),
    Mutant(
        "pending token committed with the prompt",
        PREFILL,
        "request.lengths - 1, key_spans",
        "request.lengths, key_spans",
        "the last token of a prompt is stored, and stored again when it is scored",
    ),
]
