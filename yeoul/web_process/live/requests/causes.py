"""CauseWalk: divides a request's time among causes, every moment to one, so that they add up to the whole; tells nothing.

Walks from the request's arrival over its steps to its end. A step with prompts in it takes longer than the decodes alone
would: what is beyond that is the prompts', by their tokens. ``request_story.py`` turns the causes into words.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Literal

from yeoul.web_process.live.requests.request_record import CauseSeconds, Outage, RecordedStep, RequestRecord, Walked

Cause = Literal[
    "reading", "tokenizing", "queued", "loading", "cold_prefix", "own_prefill", "prefill_of_others", "own_decode",
    "preempted", "recovery", "between_steps", "slow_reader",
]  # fmt: skip

_MAX_NUM_OTHERS = 256


class CauseWalk:
    """Over one record: ``take`` its steps, then ``finish``. The record stays as it is."""

    def __init__(self, record: RequestRecord) -> None:
        self.walked = copy.deepcopy(record.walked) or Walked(cursor=record.summary.arrived)
        self._record = record

    def take(self, steps: Iterable[RecordedStep]) -> None:
        """The next steps, in their order."""
        walked, record = self.walked, self._record
        parts, resumed, is_undisturbed = record.parts, record.resumed, not record.outages
        for step in steps:
            serial = step.serial
            is_next = is_undisturbed and serial - 1 == walked.last_serial
            if is_next and not step.num_prompt_tokens and serial not in parts and serial not in resumed:
                self._take_plain(step)
                continue
            own_prompt, own_answer = record.part_of(step)
            self._pass_gap(step, own_prompt)
            end = max(walked.cursor, step.end)
            seconds, walked.cursor = end - walked.cursor, end
            self._divide(step, seconds, own_prompt, own_answer)
            walked.last_serial = serial
            walked.num_steps += 1

    def _take_plain(self, step: RecordedStep) -> None:
        """A token of the answer right after the one before, and nobody's prompt beside it, as most steps are: the same as
        for the others, in a fifth of the time."""
        walked, causes, at = self.walked, self.walked.causes, step.at
        if at > walked.cursor:
            if (between := causes.get("between_steps")) is None:
                between = causes["between_steps"] = CauseSeconds()
            between.seconds += at - walked.cursor
            walked.cursor = at
        if (decode := causes.get("own_decode")) is None:
            decode = causes["own_decode"] = CauseSeconds()
        end = at + step.seconds
        if end > walked.cursor:
            decode.seconds += end - walked.cursor
            walked.cursor = end
        decode.num_tokens += 1
        decode.num_steps += 1
        walked.recomputes = None
        walked.last_serial = step.serial
        walked.num_steps += 1

    def finish(self, until: float) -> dict[str, CauseSeconds]:
        """What follows the last step: one that is under way, or the way to the client and what the client took.

        Returns:
            all causes, which add up to the time from the arrival to ``until``.
        """
        walked, record = self.walked, self._record
        if walked.last_serial is None:
            self._pass_door(until)
        ended = until if record.ended is None else min(record.ended, until)
        if (outage := self._outage_until(ended)) is not None:
            if walked.last_serial is None:
                self._pass("queued", min(ended, outage.since))
                ended_at = math.inf if outage.until is None else outage.until
                self._pass("recovery", min(ended, ended_at))
            else:
                self._pass("recovery", ended)
        if walked.last_serial is None:
            self._pass("queued", ended, self._record.behind)
        elif record.summary.state == "waiting":
            self._pass("preempted", ended)
        elif record.summary.state == "finished":
            self._pass("between_steps", ended)
        else:  # of a step that is under way, or was, nothing has been told
            self._pass("own_decode" if record.summary.num_output_tokens else "own_prefill", ended)
        self._pass("slow_reader", until)
        _split_cold(walked, record)
        _split_loading(walked, record)
        return walked.causes

    def _pass_gap(self, step: RecordedStep, own_prompt: int) -> None:
        """The time until ``step`` began."""
        walked = self.walked
        is_first = walked.last_serial is None
        if is_first:
            self._pass_door(step.at)
        others = self._record.resumed.get(step.serial)
        outage = self._outage_until(step.at)
        if others is not None:
            walked.recomputes = "preempted" if outage is None else "recovery"
        elif not own_prompt:
            walked.recomputes = None
        if outage is not None:
            if is_first:
                self._pass("queued", min(step.at, outage.since), self._record.behind)
                self._pass("recovery", min(step.at, math.inf if outage.until is None else outage.until))
                self._pass("queued", step.at, self._record.behind)
            self._pass("recovery", step.at)
        elif is_first:
            self._pass("queued", step.at, self._record.behind)
        elif others is not None:
            self._pass("preempted", step.at, others)
        elif walked.last_serial is not None and step.serial - walked.last_serial > 1:
            self._pass("queued", step.at)  # it was in the batch, and steps went by that had no room for it
        else:
            self._pass("between_steps", step.at)

    def _pass_door(self, until: float) -> None:
        """What there was before the engine had it, as far as that was before ``until``."""
        entered = min(self._record.entered, until)
        if self._record.read is not None:
            self._pass("reading", min(self._record.read, entered))
            self._pass("tokenizing", entered)
        else:
            self._pass("reading", entered)

    def _divide(self, step: RecordedStep, seconds: float, own: int, own_answer: int) -> None:
        """The time of a step: what its decodes take, and the rest to the prompts in it."""
        computing = self.walked.recomputes or "own_prefill"
        num_of_prompts = max(1, step.num_prompt_tokens)
        decoding = seconds
        if step.num_prompt_tokens:
            share = step.num_decodes / max(1, step.num_decodes + step.num_prompt_tokens)
            alone = share * seconds if step.decode_seconds is None else min(seconds, step.decode_seconds)
            decoding = alone if step.num_decodes else 0.0
        of_prompts = seconds - decoding
        if own:
            self._add(computing, of_prompts * own / num_of_prompts, own, num_steps=1)
        if own_answer:
            self._add("own_decode", decoding, own_answer, num_steps=1)
        else:
            self._add(computing, decoding)
        if (num_others := step.num_prompt_tokens - own) > 0:
            own_id = self._record.summary.id
            blame = {name: of_prompts * num / num_of_prompts for name, num in step.prompts if name != own_id}
            self._add("prefill_of_others", of_prompts * num_others / num_of_prompts, num_others, num_steps=1, others=blame)

    def _outage_until(self, at: float) -> Outage | None:
        """The first one between now and then."""
        cursor = self.walked.cursor
        for outage in self._record.outages:
            if outage.since < at and (outage.until is None or outage.until > cursor):
                return outage
        return None

    def _pass(self, cause: Cause, until: float, others: Sequence[str] = ()) -> None:
        seconds = until - self.walked.cursor
        if seconds > 0:
            self.walked.cursor = until
            self._add(cause, seconds, others=dict.fromkeys(others, seconds))

    def _add(
        self, cause: str, seconds: float, num_tokens: int = 0, *, num_steps: int = 0, others: dict[str, float] | None = None
    ) -> None:
        known = self.walked.causes.setdefault(cause, CauseSeconds())
        known.seconds += seconds
        known.num_tokens += num_tokens
        known.num_steps += num_steps
        for name, part in (others or {}).items():
            if name in known.others or len(known.others) < _MAX_NUM_OTHERS:
                known.others[name] = known.others.get(name, 0.0) + part


class CauseSpans(CauseWalk):
    """A walk that also notes when each cause had its time: ``spans`` follow each other without a gap.

    Of steps that are kept as sums only, each cause has one span.
    """

    def __init__(self, record: RequestRecord) -> None:
        super().__init__(record)
        self.spans: list[tuple[str, float]] = [(name, cause.seconds) for name, cause in self.walked.causes.items()]

    def finish(self, until: float) -> dict[str, CauseSeconds]:
        """See ``CauseWalk``. Of the prompt's tokens the first are those that were no longer in the cache; what was read from
        below was so at the end of the wait."""
        causes = super().finish(until)
        cold = causes["cold_prefix"].seconds if "cold_prefix" in causes else 0.0
        loading = causes["loading"].seconds if "loading" in causes else 0.0
        divided: list[tuple[str, float]] = []
        for name, seconds in self.spans:
            part = min(cold, seconds) if name == "own_prefill" else 0.0
            cold -= part
            read = min(loading, seconds) if name == "queued" else 0.0
            loading -= read
            divided += [("cold_prefix", part), (name, seconds - part - read), ("loading", read)]
        self.spans = [span for span in divided if span[1] > 0]
        return causes

    def _add(
        self, cause: str, seconds: float, num_tokens: int = 0, *, num_steps: int = 0, others: dict[str, float] | None = None
    ) -> None:
        super()._add(cause, seconds, num_tokens, num_steps=num_steps, others=others)
        self._note(cause, seconds)

    def _take_plain(self, step: RecordedStep) -> None:
        cursor = self.walked.cursor
        super()._take_plain(step)
        began = max(cursor, step.at)
        self._note("between_steps", began - cursor)
        self._note("own_decode", self.walked.cursor - began)

    def _note(self, cause: str, seconds: float) -> None:
        if self.spans and self.spans[-1][0] == cause:
            self.spans[-1] = (cause, self.spans[-1][1] + seconds)
        else:
            self.spans.append((cause, seconds))


def _split_loading(walked: Walked, record: RequestRecord) -> None:
    """What of the wait went by while blocks were read counts apart."""
    queued = walked.causes.get("queued")
    if queued is not None and (seconds := min(record.load_seconds, queued.seconds)) > 0:
        queued.seconds -= seconds
        walked.causes["loading"] = CauseSeconds(seconds, record.summary.num_cached_tokens)


def _split_cold(walked: Walked, record: RequestRecord) -> None:
    """What of the prompt had been computed before counts apart."""
    prefill = walked.causes.get("own_prefill")
    if prefill is not None and prefill.num_tokens and record.num_seen_tokens:
        share = min(1.0, record.num_seen_tokens / prefill.num_tokens)
        cold = CauseSeconds(prefill.seconds * share, min(record.num_seen_tokens, prefill.num_tokens))
        cold.others = {record.seen_in: cold.seconds} if record.seen_in else {}
        prefill.seconds -= cold.seconds
        prefill.num_tokens -= cold.num_tokens
        walked.causes["cold_prefix"] = cold
