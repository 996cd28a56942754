"""What the web process says to EngineCore: one tagged union, ``ClientMessage``."""

from __future__ import annotations

import msgspec

from yeoul.messages.sampling import SamplingParams


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first message of a client: from now on outputs go to it. ``version`` is the package version of the sender."""

    version: str


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """The blocks of the first ``num_tokens`` tokens of a prompt are to be kept for ``seconds`` after their last use."""

    num_tokens: int
    seconds: float


class AddRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="add"):
    """One prompt, one choice: a request with ``n`` choices crosses as n of these.

    ``sampling`` is resolved: ``seed`` and ``max_tokens`` are set. ``output_token_ids`` are tokens that an earlier engine
    already made for this request; they count as output, not as prompt. ``eos_token_ids`` is empty where they are to be
    ignored. ``age_seconds`` is how long it had waited when it was sent (the clocks of two hosts agree on no time). A lower
    ``priority`` runs earlier; one that is ``in_gaps`` after all others, in steps that nobody else needs. ``tenant`` is whom
    the engine's time is shared between. ``pooling`` turns the request into
    an embedding request: one vector comes back, no token. ``num_deaths`` is how often in a row an engine died
    while it computed this request, before it made a token; ``num_deaths_alone`` how often with nothing else beside.
    ``leases`` are for who will send the same beginning again. One that ``hands_over`` is another engine's as soon as its
    prompt is computed and kept where that one finds it, of which its client is told. ``turn`` is how often the request was
    another engine's before; its outputs say it, too.
    """

    request_id: str
    prompt_token_ids: list[int]
    sampling: SamplingParams
    eos_token_ids: list[int] = []
    output_token_ids: list[int] = []
    choice_index: int = 0
    priority: int = 0
    in_gaps: bool = False
    age_seconds: float = 0.0
    cache_salt: str = ""
    tenant: str = ""
    pooling: str | None = None
    num_deaths: int = 0
    num_deaths_alone: int = 0
    leases: list[Lease] = []
    hands_over: bool = False
    turn: int = 0


class AddRequestHead(msgspec.Struct, frozen=True, tag="add"):
    """What can be read of an ``AddRequest`` whose other fields cannot: whom to tell that it failed."""

    request_id: str
    turn: int = 0


class AbortRequests(msgspec.Struct, frozen=True, omit_defaults=True, tag="abort"):
    """Forget these requests and free their blocks; no output follows. Unknown ids are ignored.

    ``are_complete``: nobody gave them up; their answers ended by what EngineCore does not see, a stop string.
    """

    request_ids: list[str]
    are_complete: bool = False


class UtilityCall(msgspec.Struct, frozen=True, tag="call"):
    """Call a method that EngineCoreProc names as callable from outside; answered by ``UtilityResult``."""

    call_id: int
    method: str
    arguments: list[str] = []


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    """End now: the client has drained or does not wait."""


ClientMessage = Hello | AddRequest | AbortRequests | UtilityCall | Shutdown
