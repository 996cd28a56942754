"""words_of(): a cause of a request's time in a sentence, which says only what its record knows; called by RequestStory."""

from __future__ import annotations

from yeoul.web_process.live.requests.request_record import CauseSeconds, RequestRecord


def words_of(name: str, cause: CauseSeconds, record: RequestRecord) -> str:
    """The sentence, without a full stop."""
    num_others = len(cause.others)
    whom = "nobody" if not num_others else "another request" if num_others == 1 else f"{num_others} others"
    summary = record.summary
    tokens, steps = counted(cause.num_tokens, "token"), counted(cause.num_steps, "step")
    were = "was" if cause.num_tokens == 1 else "were"
    if name == "reading" and record.read is not None:
        return "its body was read"
    if name in ("reading", "tokenizing"):
        read = "its body was read, and its" if name == "reading" else "its"
        return f"{read} prompt made into {counted(summary.num_prompt_tokens, 'token')}"
    if name == "queued":
        meanwhile = f", while {whom} had the steps" if num_others else ""
        return f"it waited for its turn{meanwhile}"
    if name == "loading":
        return "blocks of its prompt were read from below the cache"
    if name == "cold_prefix":
        return f"{tokens} of its prompt had been computed for an earlier request, and were no longer in the cache"
    if name == "own_prefill":
        cached = f", {summary.num_cached_tokens} were in the cache" if summary.num_cached_tokens else ""
        return f"{tokens} of its prompt {were} computed in {steps}{cached}"
    if name == "prefill_of_others":
        return f"{tokens} of the prompts of {whom} {were} computed in the same steps"
    if name == "own_decode":
        return f"{tokens} of its answer {were} made in {steps}"
    if name == "preempted":
        again = f", and computed {tokens} once more" if cause.num_tokens else ""
        return f"it gave its blocks of the KV cache to others, waited until there was room{again}"
    if name == "recovery":
        what = "; ".join(dict.fromkeys(outage.words for outage in record.outages)) or "the engine was replaced"
        again = f", which computed {tokens} once more" if cause.num_tokens else ""
        return f"{what}; it waited until others had taken over{again}"
    if name == "slow_reader":
        return "its answer was complete, and the client had not yet taken it"
    return "between its steps: to plan and hand out the next one, to send what came and make it text"


def counted(number: int, word: str) -> str:
    """``1 step``, ``2 steps``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
