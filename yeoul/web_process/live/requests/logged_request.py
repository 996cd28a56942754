"""LoggedRequest and LoggedStep: what is put down of a request and of a step while they happen; know no HTTP and no text.

``RequestLog`` makes and feeds them, ``Recorder`` reads them. Times are Unix time, and never go back.
"""

from __future__ import annotations

import msgspec

from yeoul.messages.outputs import RequestOutput, StepParts
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.live.requests.request_record import ONE_TOKEN, RecordedStep, Walked


class LoggedStep(msgspec.Struct, eq=False, gc=False):
    """A step, with the requests of which it made a token, by their ids, which outlive them: most steps share one list.

    ``parts`` is what its time went to, which a record has once somebody needs one. It was the ``place``-th of its ``engine``.
    """

    record: RecordedStep
    decodes: list[str]
    parts: StepParts
    engine: int = 0
    place: int = 0

    def split(self) -> None:
        """From any thread: the record gets its parts, of all requests that share it at once."""
        parts = self.parts
        if not self.record.split and parts.update:
            seconds = (parts.out, parts.compute, parts.sample, parts.back, parts.update)
            self.record.split = [round(one * 1e6) for one in seconds]


class LoggedRequest:
    """A request with all its choices, from when the engine got it (``entered``) until its answer was read (``closed``).

    ``read`` is when its body had been read. ``steps`` are those that computed something of it, the oldest in ``walked``.
    Most computed one token of its answer; of the others ``parts`` has the tokens of its prompts and of its answers, by their
    serial number. ``begun`` are the choices that the workers have got; ``behind`` who was computed while the first one
    waited. ``resumed`` are the steps with which it went on after it had been put back into the queue, and who was computed
    meanwhile; ``resumes_after`` is the same of a step that is not back yet, and ``is_plain`` that there is no such thing.
    ``load_seconds`` are those of its wait in which blocks were read.
    """

    __slots__ = (
        "arrival", "begun", "behind", "closed", "entered", "first_token_at", "id", "is_plain", "load_seconds",
        "num_cached_tokens", "num_output_tokens", "parts", "read", "resumed", "resumes_after", "steps", "stream",
        "terms", "walked",
    )  # fmt: skip

    def __init__(
        self, stream: RequestStream, terms: ServiceTerms, arrival: float, entered: float, read: float | None
    ) -> None:
        self.id = stream.request_id
        self.stream = stream
        self.terms = terms
        self.arrival = arrival
        self.entered = entered
        self.read = read
        self.closed: float | None = None
        self.first_token_at: float | None = None
        self.load_seconds = 0.0
        self.num_cached_tokens = 0
        self.num_output_tokens = 0
        self.begun: set[str] = set()
        self.behind: list[str] = []
        self.steps: list[LoggedStep] = []
        self.parts: dict[int, tuple[int, int]] = {}
        self.is_plain = True
        self.resumed: dict[int, list[str]] = {}
        self.resumes_after: list[str] | None = None
        self.walked: Walked | None = None

    def note_step(self, step: LoggedStep, num_prompt_tokens: int, num_answer_tokens: int) -> None:
        """The step computed so much of it; of several choices, once each."""
        serial = step.record.serial
        if self.steps and self.steps[-1] is step:
            of_prompts, of_answers = self.parts.get(serial, ONE_TOKEN)
            self.parts[serial] = (of_prompts + num_prompt_tokens, of_answers + num_answer_tokens)
            return
        if self.resumes_after is not None:
            self.resumed[serial] = self.resumes_after
            self.resumes_after, self.is_plain = None, True
        self.steps.append(step)
        if (num_prompt_tokens, num_answer_tokens) != ONE_TOKEN:
            self.parts[serial] = (num_prompt_tokens, num_answer_tokens)

    def note_resumption(self, others: list[str]) -> None:
        """The workers have got it once more; ``others`` were computed meanwhile."""
        self.resumes_after, self.is_plain = others, False

    def forget_steps(self, num_steps: int, walked: Walked) -> None:
        """The first ones are in ``walked`` from now on."""
        self.walked = walked
        first = self.steps[num_steps].record.serial
        self.resumed = {serial: others for serial, others in self.resumed.items() if serial >= first}
        self.parts = {serial: part for serial, part in self.parts.items() if serial >= first}
        del self.steps[:num_steps]

    @property
    def computed_until(self) -> float:
        """When the last step ended that computed something of it; before all times, where none has."""
        return self.steps[-1].record.end if self.steps else 0.0

    def note_first(self, output: RequestOutput, now: float) -> None:
        """The first output of one of its choices. The prompt's cached tokens count once, of the first choice."""
        if self.first_token_at is None and (output.new_token_ids or output.embedding is not None):
            self.first_token_at = now
            self.load_seconds = output.load_seconds
        if output.num_cached_tokens and ".0#" in output.request_id:
            self.num_cached_tokens += output.num_cached_tokens
