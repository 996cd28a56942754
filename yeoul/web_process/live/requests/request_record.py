"""RequestRecord: all that is kept of one request, as plain data: what its story is told from, while it lives and afterwards.

Times are Unix time. Knows no engine, no HTTP and no story.
"""

from __future__ import annotations

import msgspec

from yeoul.web_process.live.requests.request_summary import RequestSummary


class RecordedStep(msgspec.Struct, array_like=True, gc=False):
    """A step that was back after ``seconds``, of all who had a part in it; one object for all of their records. There are
    thousands, which have no cycles, so that nobody need look for any.

    ``serial`` counts the steps of all engines, ``number`` those of its own. In all it computed ``num_tokens`` tokens of
    ``num_requests`` choices, of which ``num_decodes`` had one token and the others ``num_prompt_tokens`` of their prompts;
    ``prompts`` are their requests. ``split`` are the microseconds at its end that it took to reach the workers, to run the
    model, to draw tokens, to come back and to be booked; empty where that is not known. ``decode_seconds`` is what as many
    decodes and no prompt took of late; None where that is not known.
    """

    serial: int
    number: int
    at: float
    seconds: float
    num_tokens: int
    num_requests: int
    num_decodes: int
    num_prompt_tokens: int
    decode_seconds: float | None = None
    prompts: list[tuple[str, int]] = []
    split: list[int] = []

    @property
    def end(self) -> float:
        """When it was back."""
        return self.at + self.seconds


class Outage(msgspec.Struct, array_like=True):
    """Processes died or hung; ``until`` is None while others have not taken over."""

    since: float
    words: str
    until: float | None = None


class CauseSeconds(msgspec.Struct):
    """What a cause took, what of it ``others`` are to blame for, and how many tokens and steps it is about."""

    seconds: float = 0.0
    num_tokens: int = 0
    num_steps: int = 0
    others: dict[str, float] = {}


class Walked(msgspec.Struct, kw_only=True):
    """What has been divided among causes so far: everything up to ``cursor``. ``last_serial`` is of the last step."""

    cursor: float
    causes: dict[str, CauseSeconds] = {}
    last_serial: int | None = None
    recomputes: str | None = None
    num_steps: int = 0


ONE_TOKEN = (0, 1)
"""Of no prompt, and of the answer: what most steps compute of a request."""


class RequestRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """``read`` is when its body had been read, ``tokenized`` when its prompts were tokens, ``entered`` when the engine was
    handed the request, ``ended`` when its answer was complete, ``closed`` when it was read or given up; None where that has
    not been. ``steps`` are the last ones; those before are in ``walked``. Most computed one token of its answer; of the
    others ``parts`` has the tokens of its prompts and of its answers. From the step of each of ``companies`` on, until
    the next, these decoded.

    ``resumed`` are the steps, by their serial number, with which it went on after it had been put back into the queue, and
    who was computed meanwhile; ``behind`` who was before its first one. At the end of its wait for that, blocks were read
    for ``load_seconds`` from below the cache. ``num_seen_tokens`` tokens of its prompt had been
    computed before, for ``seen_in``, and were no longer there. ``body`` sends it again, but for the fields ``left_out``.
    """

    summary: RequestSummary
    entered: float
    read: float | None = None
    ended: float | None = None
    closed: float | None = None
    error: str | None = None
    tokenized: float | None = None
    steps: list[RecordedStep] = []
    parts: dict[int, tuple[int, int]] = {}
    companies: list[tuple[int, list[str]]] = []
    resumed: dict[int, list[str]] = {}
    behind: list[str] = []
    outages: list[Outage] = []
    walked: Walked | None = None
    load_seconds: float = 0.0
    num_seen_tokens: int = 0
    seen_in: str = ""
    body: str = ""
    left_out: list[str] = []

    @property
    def first_step_at(self) -> float | None:
        """When its first step began, those that are kept as sums only included; None where there was none."""
        if self.walked is not None:
            queued = self.walked.causes.get("queued")
            return self.entered + (queued.seconds if queued is not None else 0.0)
        return self.steps[0].at if self.steps else None

    def part_of(self, step: RecordedStep) -> tuple[int, int]:
        """How many tokens of its prompts and of its answers the step computed."""
        return self.parts.get(step.serial, ONE_TOKEN)
