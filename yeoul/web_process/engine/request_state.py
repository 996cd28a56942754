"""What the web process knows of one request inside the engine (one prompt, one choice); knows nothing of HTTP or sockets.

``AsyncLLM`` makes the states, ``OutputQueueLoop`` feeds them with what the engine sends.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from yeoul.engines.engine_request import EngineRequest
from yeoul.engines.request_place import RequestPlace
from yeoul.errors import InvalidRequestError, RequestFailedError, TooManyRequestsError, YeoulError
from yeoul.log import of_request
from yeoul.messages.outputs import FinishReason, RequestFault, RequestOutput
from yeoul.messages.requests import AddRequest
from yeoul.web_process.engine.generation_output import AnswerTimes, GenerationOutput
from yeoul.web_process.engine.request_observer import Requester, RequestObserver
from yeoul.web_process.engine.request_stream import RequestStream

if TYPE_CHECKING:
    from yeoul.text.detokenizer import IncrementalDetokenizer

logger = logging.getLogger(__name__)


class RequestState(EngineRequest):
    """One choice of one prompt that the engine has not finished. ``stream`` is what its reader reads.

    Of ``output_token_ids`` the detokenizer may still hold some back.
    """

    def __init__(
        self,
        add: AddRequest,
        stream: RequestStream,
        detokenizer: IncrementalDetokenizer,
        observer: RequestObserver,
        arrival: float,
        *,
        who: Requester,
        prompt_index: int = 0,
    ) -> None:
        super().__init__(add, arrival)
        self.stream = stream
        self._observer = observer
        self._who = who
        self._last_time = arrival
        self._prompt_index = prompt_index
        self._detokenizer = detokenizer
        self._num_cached_tokens = 0
        self._num_leased_tokens = 0
        self._first_time = arrival
        self._can_trim = bool(add.sampling.stop)

    def _observe_end(self, reason: FinishReason, now: float, num_output_tokens: int) -> None:
        """Runs where requests end by the dozen, failures included: an observer that fails spoils nobody's end."""
        try:
            num_prompt_tokens = len(self.add.prompt_token_ids)
            self._observer.finished(self._who, reason, now - self.arrival, num_prompt_tokens, num_output_tokens)
        except Exception:
            logger.exception("the end of this request cannot be counted", extra=of_request(self.add.request_id))

    def apply(self, output: RequestOutput, now: float, gaps: dict[float, int]) -> bool:
        """See ``EngineRequest``: the end is the engine's own, or a stop string, which only we can see."""
        if output.fault is not None:
            self.fail(error_of(output.fault), now)
            return True
        if self.place is not RequestPlace.GOING:
            self.move_to(RequestPlace.GOING)
        if output.queue_seconds is not None:
            self._note_turn(output, output.queue_seconds)
        if num_tokens := len(output.new_token_ids):
            if not self.output_token_ids:
                self._observer.first_token(self._who, now - self.arrival)
                self._first_time = now
            elif not self.add.in_gaps:
                gap = (now - self._last_time) / num_tokens  # tokens that came together share the time
                gaps[gap] = gaps.get(gap, 0) + num_tokens
            self._last_time = now
        delta = self._push(output, now)
        if delta.finish_reason is None:
            return False
        if delta.times is not None:
            self._observer.answered(self._who, delta.times)
        self._observe_end(delta.finish_reason, now, delta.num_output_tokens)
        return True

    def replay(self, made: Sequence[RequestOutput]) -> None:
        """Takes what was made of it before, by a server that is gone; the engine is told, and goes on behind it."""
        for output in made:
            self._push(output, self.arrival)
        self.add = msgspec.structs.replace(self.add, output_token_ids=list(self.output_token_ids))

    def _push(self, output: RequestOutput, now: float) -> GenerationOutput:
        """Hands it to the reader, as text."""
        self.output_token_ids += output.new_token_ids
        text = self._detokenizer.push(output.new_token_ids, ends_with_stop_token=output.finish_reason == "stop")
        delta = GenerationOutput(
            request_id=self.stream.request_id,
            prompt_index=self._prompt_index,
            choice_index=self.add.choice_index,
            seed=self.add.sampling.seed or 0,
            num_prompt_tokens=len(self.add.prompt_token_ids),
            text=text,
            token_ids=output.new_token_ids,
            logprobs=output.new_logprobs,
            prompt_logprobs=output.prompt_logprobs,
            num_output_tokens=len(self.output_token_ids),
            num_cached_tokens=self._num_cached_tokens,
            num_leased_tokens=self._num_leased_tokens,
        )
        if output.finish_reason is not None or self._can_trim:
            self._find_end(delta, output, now)
        if self._detokenizer.has_marks:
            delta.marks = self._detokenizer.take_marks(len(delta.text))
        self.stream.push(delta, is_ready=bool(delta.text) or delta.finish_reason is not None)
        return delta

    def _find_end(self, delta: GenerationOutput, output: RequestOutput, now: float) -> None:
        """Why the choice ends, if it does. The token that ended it is counted, but is no text."""
        delta.finish_reason, delta.stop_reason = output.finish_reason, output.stop_reason
        if output.finish_reason is not None:
            delta.text += self._detokenizer.finish()
        if (stop_string := self._detokenizer.stop_reason) is not None:
            delta.finish_reason, delta.stop_reason = "stop", stop_string
            num_before = len(self.output_token_ids) - len(delta.token_ids)
            num_kept = max(0, self._detokenizer.num_tokens_used - num_before)
            delta.token_ids, delta.logprobs = delta.token_ids[:num_kept], delta.logprobs[:num_kept]
            delta.num_output_tokens = num_before + num_kept
        if delta.finish_reason is not None:
            delta.embedding, delta.times = output.embedding, self._times(now)

    def _note_turn(self, output: RequestOutput, queue_seconds: float) -> None:
        """What comes with the first output alone."""
        self._num_cached_tokens = output.num_cached_tokens
        self._num_leased_tokens = output.num_leased_tokens
        self.queue_seconds = queue_seconds
        self._observer.queued(self._who, queue_seconds)

    def _times(self, now: float) -> AnswerTimes:
        first = self._first_time if self.output_token_ids else now  # a vector comes without tokens
        prompt_seconds = max(0.0, first - self.arrival - self.queue_seconds)
        return AnswerTimes(now - self.arrival, self.queue_seconds, prompt_seconds, now - first)

    def fail(self, error: Exception, now: float) -> None:
        """The request has failed; its reader learns why. One failed choice ends the whole stream."""
        self._observe_end("error", now, len(self.output_token_ids))
        self.stream.fail(error)

    def give_up(self, now: float) -> None:
        """Nobody waits for it any longer; the reader, should there be one, sees this choice end as ``abort``."""
        self._observe_end("abort", now, len(self.output_token_ids))
        end = GenerationOutput(
            request_id=self.stream.request_id,
            prompt_index=self._prompt_index,
            choice_index=self.add.choice_index,
            seed=self.add.sampling.seed or 0,
            num_prompt_tokens=len(self.add.prompt_token_ids),
            num_output_tokens=len(self.output_token_ids),
            num_cached_tokens=self._num_cached_tokens,
            num_leased_tokens=self._num_leased_tokens,
            finish_reason="abort",
        )
        self.stream.push(end, is_ready=True)


def error_of(fault: RequestFault) -> YeoulError:
    """The error that a fault of the engine is to the client, by its HTTP status."""
    if fault.status == TooManyRequestsError.status:
        return TooManyRequestsError(fault.message)
    if 400 <= fault.status < 500:
        return InvalidRequestError(fault.message)
    return RequestFailedError(fault.message)
