"""LoggedRequest and LoggedStep: what is put down of a request and of a step while they happen; know no HTTP and no text.

``RequestLog`` makes and feeds them, ``Recorder`` reads them. Times are of the web process's monotonic clock.
"""

from __future__ import annotations

from yeoul.messages.outputs import RequestOutput, StepFacts
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.live.request_record import Walked


class LoggedStep:
    """A step, the ``serial``-th that came back, of whatever engine; ``number`` is the engine's own.

    ``prompts`` are the requests of whose prompts it computed several tokens, with how many; ``decodes`` had one token. They
    are named by their ids, which outlive them. ``num_decodes`` counts choices. ``decode_seconds`` is what steps with as many
    decodes and no prompt took of late; None where none was seen.
    """

    __slots__ = (
        "at", "decode_seconds", "decodes", "num_decodes", "num_prompt_tokens", "num_requests", "num_tokens", "number",
        "prompts", "seconds", "serial",
    )  # fmt: skip

    def __init__(self, serial: int, facts: StepFacts, at: float, seconds: float) -> None:
        self.serial = serial
        self.number = facts.number
        self.at = at
        self.seconds = seconds
        self.num_tokens = facts.num_tokens
        self.num_requests = facts.num_requests
        self.num_decodes = max(0, facts.num_requests - len(facts.prompts))
        self.num_prompt_tokens = sum(num_tokens for _, num_tokens in facts.prompts)
        self.decode_seconds: float | None = None
        self.prompts: list[tuple[str, int]] = []
        self.decodes: list[str] = []


class LoggedRequest:
    """A request with all its choices, from when the engine got it (``entered``) until its answer was read (``closed``).

    ``steps`` are those that computed something of it, with the tokens of its prompts and of its answers beside them; those
    before are in ``walked``. ``begun`` are the choices that the workers have got; ``behind`` who was computed while the
    first one waited. ``resumed`` are the steps, by their serial number, with which it went on after it had been put back
    into the queue, and who was computed meanwhile; ``resumes_after`` is the same of a step that is not back yet.
    """

    __slots__ = (
        "arrival", "begun", "behind", "closed", "entered", "first_token_at", "id", "num_answer_tokens", "num_cached_tokens",
        "num_output_tokens", "num_prompt_tokens", "resumed", "resumes_after", "steps", "stream", "terms", "walked",
    )  # fmt: skip

    def __init__(self, stream: RequestStream, terms: ServiceTerms, arrival: float) -> None:
        self.id = stream.request_id
        self.stream = stream
        self.terms = terms
        self.arrival = arrival
        self.entered = stream.entered_at
        self.closed: float | None = None
        self.first_token_at: float | None = None
        self.num_cached_tokens = 0
        self.num_output_tokens = 0
        self.begun: set[str] = set()
        self.behind: list[str] = []
        self.steps: list[LoggedStep] = []
        self.num_prompt_tokens: list[int] = []
        self.num_answer_tokens: list[int] = []
        self.resumed: dict[int, list[str]] = {}
        self.resumes_after: list[str] | None = None
        self.walked: Walked | None = None

    def note_step(self, step: LoggedStep, num_prompt_tokens: int, num_answer_tokens: int) -> None:
        """The step computed so much of it; of several choices, once each."""
        if self.steps and self.steps[-1] is step:
            self.num_prompt_tokens[-1] += num_prompt_tokens
            self.num_answer_tokens[-1] += num_answer_tokens
            return
        if self.resumes_after is not None:
            self.resumed[step.serial] = self.resumes_after
            self.resumes_after = None
        self.steps.append(step)
        self.num_prompt_tokens.append(num_prompt_tokens)
        self.num_answer_tokens.append(num_answer_tokens)

    def forget_steps(self, num_steps: int, walked: Walked) -> None:
        """The first ones are in ``walked`` from now on."""
        self.walked = walked
        self.resumed = {serial: others for serial, others in self.resumed.items() if serial >= self.steps[num_steps].serial}
        for parts in (self.steps, self.num_prompt_tokens, self.num_answer_tokens):
            del parts[:num_steps]

    @property
    def computed_until(self) -> float:
        """When the last step ended that computed something of it; before all times, where none has."""
        return self.steps[-1].at + self.steps[-1].seconds if self.steps else 0.0

    def note_output(self, output: RequestOutput, now: float) -> None:
        """One of its choices has gained something. The prompt's cached tokens count once, of the first choice."""
        if self.first_token_at is None and (output.new_token_ids or output.embedding is not None):
            self.first_token_at = now
        self.num_output_tokens += len(output.new_token_ids)
        if output.num_cached_tokens and ".0#" in output.request_id:
            self.num_cached_tokens += output.num_cached_tokens
