"""LoggedRequest and LoggedStep: what is written down of a request and of a step while they happen; know no HTTP and no text.

``RequestLog`` makes and feeds them, ``request_story.py`` reads them. Times are of the web process's monotonic clock.
"""

from __future__ import annotations

from yeoul.messages.outputs import RequestOutput
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.service_terms import ServiceTerms


class LoggedStep:
    """A step, the ``serial``-th that came back, of whatever engine; ``number`` is the engine's own.

    ``prompts`` are those of whose prompts it computed several tokens, with how many; ``decodes`` had one token.
    ``decode_seconds`` is what steps with as many decodes and no prompt took of late; None where none was seen.
    """

    __slots__ = (
        "at", "decode_seconds", "decodes", "num_prompt_tokens", "num_requests", "num_tokens", "number", "prompts", "seconds",
        "serial",
    )  # fmt: skip

    def __init__(self, serial: int, number: int, at: float, seconds: float, num_tokens: int, num_requests: int) -> None:
        self.serial = serial
        self.number = number
        self.at = at
        self.seconds = seconds
        self.num_tokens = num_tokens
        self.num_requests = num_requests
        self.num_prompt_tokens = 0
        self.decode_seconds: float | None = None
        self.prompts: list[tuple[LoggedRequest, int]] = []
        self.decodes: list[LoggedRequest] = []


class LoggedRequest:
    """A request with all its choices, from when the engine got it (``entered``) until its answer was read (``closed``).

    ``steps`` are those that computed something of it, with the tokens of its prompts and of its answers beside them.
    ``resumed`` are the places in it where workers got it once more, after a preemption or a recovery; ``begun`` the choices
    that they have got. ``behind`` are those that were computed while it waited for its first step.
    """

    __slots__ = (
        "arrival", "begun", "behind", "closed", "entered", "first_token_at", "id", "num_answer_tokens_of_steps",
        "num_cached_tokens", "num_output_tokens", "num_prompt_tokens_of_steps", "resumed", "steps", "stream", "terms",
    )  # fmt: skip

    def __init__(self, stream: RequestStream, terms: ServiceTerms, arrival: float, entered: float) -> None:
        self.id = stream.request_id
        self.stream = stream
        self.terms = terms
        self.arrival = arrival
        self.entered = entered
        self.closed: float | None = None
        self.first_token_at: float | None = None
        self.num_cached_tokens = 0
        self.num_output_tokens = 0
        self.begun: set[str] = set()
        self.behind: list[LoggedRequest] = []
        self.steps: list[LoggedStep] = []
        self.num_prompt_tokens_of_steps: list[int] = []
        self.num_answer_tokens_of_steps: list[int] = []
        self.resumed: list[int] = []

    def note_step(self, step: LoggedStep, num_prompt_tokens: int, num_answer_tokens: int) -> None:
        """The step computed so much of it; of several choices, once each."""
        if self.steps and self.steps[-1] is step:
            self.num_prompt_tokens_of_steps[-1] += num_prompt_tokens
            self.num_answer_tokens_of_steps[-1] += num_answer_tokens
        else:
            self.steps.append(step)
            self.num_prompt_tokens_of_steps.append(num_prompt_tokens)
            self.num_answer_tokens_of_steps.append(num_answer_tokens)

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

    def note_begun(self, engine_id: str) -> None:
        """The workers have got one of its choices, for the first time or once more."""
        if engine_id in self.begun:
            self.resumed.append(len(self.steps))
        self.begun.add(engine_id)
