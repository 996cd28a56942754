"""What the keeper of the engines and its web processes say to each other beside what EngineCore and a client do.

``KeeperMessage`` goes to a web process and ``WebMessage`` comes from one, over the link between the two; ``WebOrder`` goes
over the line of parent and child, beside all work.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from yeoul.messages.kv_events import KVEventSource
from yeoul.messages.outputs import EngineMessage
from yeoul.messages.requests import ClientMessage
from yeoul.messages.siblings import SiblingAnswer, SiblingQuestion
from yeoul.messages.statistics import EngineStatistics
from yeoul.messages.topology import Incident

EngineState = Literal["starting", "ready", "stalled", "recovering", "draining", "dead", "sleeping"]
EngineRole = Literal["prefill", "decode"]
OrderKind = Literal["drain", "part", "reload"]


class KeeperNews(msgspec.Struct, frozen=True, omit_defaults=True, tag="news"):
    """What has happened to processes since the last one; ``restarts`` counts all there ever were, by process.

    ``deaths`` are the roles with their causes, ``recoveries`` the seconds that each took. ``lost``: which process is missing
    now, where no engine computes. ``is_stalled``: none has answered yet.
    """

    incidents: list[Incident] = []
    restarts: dict[str, int] = {}
    deaths: list[tuple[str, str]] = []
    recoveries: list[float] = []
    lost: str | None = None
    is_stalled: bool = False


class EngineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One of several engines: what it is doing, and which process it lacks or why it is dead, as a sentence.

    ``num_unfinished`` requests it has, or they wait for it. It has a ``role`` where prompts are computed apart.
    """

    name: str
    state: EngineState
    cause: str | None
    num_unfinished: int
    statistics: EngineStatistics
    role: EngineRole | None = None
    num_blocks: int = 0
    block_size: int = 0
    kv_events: KVEventSource | None = None


class EachEngine(msgspec.Struct, frozen=True, tag="each"):
    """All of them, where they are several."""

    engines: list[EngineFacts]


class OthersWait(msgspec.Struct, frozen=True, tag="others"):
    """How many requests of the other web processes wait now, and tokens of their prompts, by tenant."""

    waiting: dict[str, tuple[int, int]]


class AreYouThere(msgspec.Struct, frozen=True, tag="there"):
    """The web process says that it is, as soon as its event loop has a turn."""


class SiblingAsks(msgspec.Struct, frozen=True, tag="sibling_asks"):
    """A sibling's question, which the web process answers by ``SiblingSays`` with this number."""

    number: int
    question: SiblingQuestion


class SiblingsSay(msgspec.Struct, frozen=True, tag="siblings_say"):
    """What has been answered to the question of this number, as far as it came in time."""

    number: int
    answers: list[SiblingAnswer]


KeeperMessage = EngineMessage | KeeperNews | EachEngine | OthersWait | AreYouThere | SiblingAsks | SiblingsSay


class HereIAm(msgspec.Struct, frozen=True, tag="here"):
    """The answer to ``AreYouThere``."""


class Drained(msgspec.Struct, frozen=True, tag="drained"):
    """All that was to be finished is; what comes is refused until the keeper lets this process end."""


class AskSiblings(msgspec.Struct, frozen=True, tag="ask_siblings"):
    """A question to all other web processes; ``number`` is the sender's own."""

    number: int
    question: SiblingQuestion


class SiblingSays(msgspec.Struct, frozen=True, tag="sibling_says"):
    """The answer to ``SiblingAsks``."""

    number: int
    answer: SiblingAnswer


WebMessage = ClientMessage | HereIAm | Drained | AskSiblings | SiblingSays


class WebOrder(msgspec.Struct, frozen=True, tag="order"):
    """What a web process has to do: what it would do itself on a first signal, or on SIGHUP. Twice is as once.

    One that has drained goes on to refuse what comes until all have, and it is told to ``part``.
    """

    kind: OrderKind
