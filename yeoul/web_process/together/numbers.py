"""SharedNumbers: what ``/metrics`` says of all web processes of a server together, of dead ones as well; knows no route.

Each writes down what it has counted, about once a second and before it tells anybody: who takes its place goes on from there,
and who joins takes it for one that does not answer. So no counter goes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from yeoul.messages.siblings import SiblingQuestion
from yeoul.web_process.server_context import ServerContext

logger = logging.getLogger(__name__)

NUMBERS = "numbers"
"""What a sibling is asked for."""

_SECONDS_BETWEEN_NOTES = 1.0
_FILE = "numbers."
_PREFIXES = ("yeoul:", "vllm:")
# What each web process counts of its own: all of them added.
_ADDED = frozenset(
    {
        *("time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds"),
        *("request_queue_time_seconds", "request_preparation_seconds", "request_prompt_tokens", "request_generation_tokens"),
        *("request_success", "request_refused", "request_prefill_time_seconds", "request_decode_time_seconds"),
        *("request_inference_time_seconds", "http_responses", "http_connections", "http_body_bytes"),
        *("event_loop_lag_seconds", "grammars", "tool_calls"),
    }
)
# What every one of them sees of the engines, since its own start: taken once.
_SEEN = frozenset(
    {
        *("process_deaths", "recovery_seconds"),
        *("step_duration_seconds", "step_requests", "step_tokens", "step_part_seconds"),
    }
)
# What says of a process what it is, without naming it.
_EACH = frozenset(
    {
        *("process_virtual_memory_bytes", "process_resident_memory_bytes", "process_start_time_seconds"),
        *("process_cpu_seconds", "process_open_fds", "process_max_fds"),
    }
)
# What all are told of processes and links as they are now, which begin anew with those that take their places.
_OF_NOW = frozenset({"link_messages", "link_bytes", "process_cpu_time_seconds", "process_restarts"})
_COUNTED = ("counter", "histogram")
_WEB = "Web"
_IS_WEB = ("process", _WEB)

Joining = Literal["added", "seen", "each", "largest", "own"]
Key = tuple[str, tuple[tuple[str, str], ...]]


def joining_of(family: str, kind: str) -> Joining:
    """How a metric of this name is joined. What the engine counts is the same everywhere: the largest is the newest."""
    name = family
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    if name in _ADDED:
        return "added"
    if name in _SEEN:
        return "seen"
    if family in _EACH:
        return "each"
    return "largest" if kind in _COUNTED and name not in _OF_NOW else "own"


@dataclass
class Family:
    """The samples of one metric."""

    text: str
    kind: str
    samples: dict[Key, float] = field(default_factory=dict)


Families = dict[str, Family]


def read_families(text: bytes) -> Families:
    """What Prometheus's text says."""
    return {
        metric.name: Family(
            metric.documentation,
            metric.type,
            {(sample.name, tuple(sample.labels.items())): sample.value for sample in metric.samples},
        )
        for metric in text_string_to_metric_families(text.decode())
    }


def write_families(families: Families) -> bytes:
    """The same as Prometheus's text."""
    registry = CollectorRegistry()
    registry.register(_Read(families))
    return generate_latest(registry)


class _Read(Collector):
    def __init__(self, families: Families) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that nobody collects to know what there is."""
        return []

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        for name, family in self._families.items():
            metric = Metric(name, family.text, family.kind)
            metric.samples = [Sample(sample, dict(labels), value) for (sample, labels), value in family.samples.items()]
            yield metric


def named(families: Families, index: int) -> Families:
    """The same, with the name of the process where it is about one."""
    own = f"{_WEB}_{index}"
    for name, family in families.items():
        if joining_of(name, family.kind) == "each":
            family.samples = {(key, (*labels, ("process", own))): value for (key, labels), value in family.samples.items()}
        elif any(_IS_WEB in labels for _, labels in family.samples):
            family.samples = {
                (key, tuple(("process", own) if one == _IS_WEB else one for one in labels)): value
                for (key, labels), value in family.samples.items()
            }
    return families


def counted(families: Families) -> Families:
    """What is left of a process that has died: its counters, but for those of processes."""
    return {
        name: family
        for name, family in families.items()
        if family.kind in _COUNTED and joining_of(name, family.kind) not in ("each", "own")
    }


def follow(now: Families, before: Families) -> Families:
    """What a process tells that has taken the place of one that had counted ``before``."""
    for name, past in before.items():
        present = now.setdefault(name, Family(past.text, past.kind))
        adds = joining_of(name, past.kind) in ("added", "seen")
        for key, value in past.samples.items():
            here = present.samples.get(key, 0.0)
            present.samples[key] = here + value if adds else max(here, value)
    return now


def join(own: Families, others: Iterable[Families]) -> Families:
    """All together, in the order of one's own; it is changed."""
    for families in others:
        for name, family in families.items():
            joining = joining_of(name, family.kind)
            joined = own.setdefault(name, Family(family.text, family.kind))
            for key, value in family.samples.items():
                here = joined.samples.get(key)
                if here is None:
                    joined.samples[key] = value
                elif joining == "added":
                    joined.samples[key] = here + value
                elif joining in ("seen", "largest"):
                    joined.samples[key] = max(here, value)
    return own


class Noted(msgspec.Struct, array_like=True):
    """What a process says of its numbers: Prometheus's text, and that of what those before it in its place had counted."""

    text: bytes = b""
    before: bytes = b""

    def read(self, index: int) -> Families:
        """Both together, of the process of this index."""
        return follow(named(read_families(self.text), index), read_families(self.before))


class SharedNumbers:
    """Of one web process that has siblings; ``resume`` when the engine is ready, ``suspend`` when the server stops.

    Who notes writes texts; who joins reads them: that takes ten times as long, and is done for a scrape alone.
    """

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._index = context.siblings.index
        self._folder = context.siblings.folder
        self._before = write_families(counted(self._noted(self._index).read(self._index)))
        self._turn = asyncio.Lock()
        self._noting: asyncio.Task[None] | None = None
        self._last: tuple[object, ...] = ()
        context.asked[NUMBERS] = self._answer

    async def joined(self) -> bytes:
        """The answer to a scrape."""
        own, answers = await asyncio.gather(self._own(), self._context.siblings.ask(SiblingQuestion("", NUMBERS)))
        given = {answer.index: answer.body for answer in answers if answer.status == 200}

        def work() -> bytes:
            silent = [index for index in self._places() if index not in given and index != self._index]
            others = [msgspec.msgpack.decode(body, type=Noted).read(index) for index, body in given.items()]
            others += [counted(self._noted(index).read(index)) for index in silent]
            return write_families(join(own.read(self._index), others))

        return await asyncio.to_thread(work)

    async def resume(self) -> None:
        """From now on what is counted is noted."""
        self._noting = asyncio.create_task(self._note_again(), name="note_numbers")

    async def suspend(self) -> None:
        """What follows is noted when somebody asks."""
        if self._noting is not None:
            self._noting.cancel()

    async def _answer(self, _: bytes) -> bytes:
        return msgspec.msgpack.encode(await self._own())

    async def _own(self, *, looks: bool = True) -> Noted:
        own = Noted(await self._context.asked["metrics"](b"look" if looks else b""), self._before)
        async with self._turn:  # what was noted last is what was told last
            try:
                await asyncio.to_thread(self._note, own)
            except OSError as error:
                if not looks:
                    raise
                logger.warning("what was counted could not be noted, and is told all the same: %s", error)
        return own

    def _note(self, own: Noted) -> None:
        if self._folder is not None:
            path = os.path.join(self._folder, f"{_FILE}{self._index}")
            with open(f"{path}.new", "wb") as file:
                file.write(msgspec.msgpack.encode(own))
            os.replace(f"{path}.new", path)

    async def _note_again(self) -> None:
        """About once a second, while something happens."""
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_NOTES)
            models = self._context.fleet.models
            now = (self._context.traffic.statuses.total(), *(model.llm.statistics for model in models))
            if now != self._last:
                try:
                    await self._own(looks=False)
                    self._last = now
                except Exception:
                    logger.exception("what was counted could not be noted; it will be again")

    def _places(self) -> list[int]:
        """Of all web processes that have ever noted something."""
        found = [name.removeprefix(_FILE) for name in os.listdir(self._folder or "") if name.startswith(_FILE)]
        return [int(name) for name in found if name.isdigit()]

    def _noted(self, index: int) -> Noted:
        if self._folder is not None:
            with contextlib.suppress(FileNotFoundError), open(os.path.join(self._folder, f"{_FILE}{index}"), "rb") as file:
                return msgspec.msgpack.decode(file.read(), type=Noted)
        return Noted()
