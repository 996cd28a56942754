"""What ``--kv-events-config`` says: a JSON object as vLLM spells it; knows no socket.

``yeoul.config.build`` checks it when the server starts, EngineCore reads it once more. A block's tokens are in the events:
whoever can read them can read what users send.
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from yeoul.errors import ConfigError

_IPC = "ipc://"
_EVERY_ADDRESS = frozenset({"*", "0.0.0.0", "::"})  # noqa: S104  # to be told from others
_EXAMPLE = '{"enable_kv_cache_events": true, "endpoint": "tcp://*:5557", "replay_endpoint": "tcp://*:5558"}'
_KNOWN = (
    "enable_kv_cache_events, publisher (zmq or null), endpoint, replay_endpoint, buffer_steps (at most 1000000), "
    "hwm, max_queue_size and topic"
)


class KVEventsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where events about the blocks of the KV cache go.

    ``endpoint`` is listened on where it is of this machine as a whole (``*``) or of loopback, or ``ipc://``; where it names
    somebody else, that one is connected to. ``replay_endpoint`` is always listened on. ``buffer_steps`` batches are kept for
    it; ``hwm`` batches wait for a subscriber that does not read, ``max_queue_size`` for the thread that sends.
    """

    enable_kv_cache_events: bool = False
    publisher: Literal["zmq", "null"] = "zmq"
    endpoint: str = "tcp://*:5557"
    replay_endpoint: str | None = None
    buffer_steps: Annotated[int, Meta(ge=0, le=1_000_000)] = 10_000
    hwm: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    max_queue_size: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    topic: Annotated[str, Meta(max_length=1024)] = ""

    @property
    def is_on(self) -> bool:
        """Whether anything is told."""
        return self.enable_kv_cache_events and self.publisher == "zmq"

    @property
    def endpoints(self) -> list[str]:
        """Both, or the one that there is."""
        return [self.endpoint] if self.replay_endpoint is None else [self.endpoint, self.replay_endpoint]

    def of_engine(self, index: int) -> KVEventsConfig:
        """Of the one with this number among several: each has the ports behind those of the one before it, as in vLLM."""
        replay = None if self.replay_endpoint is None else _with_offset(self.replay_endpoint, index)
        return msgspec.structs.replace(self, endpoint=_with_offset(self.endpoint, index), replay_endpoint=replay)


def read_kv_events(text: str | None, origin: str = "--kv-events-config", num_engines: int = 1) -> KVEventsConfig | None:
    """The configuration that ``text`` writes, of the first of ``num_engines``; None where nothing is told.

    Raises:
        ConfigError: it is no such object, or the endpoints cannot work; ``origin`` is what the user wrote.
    """
    if text is None:
        return None
    try:
        config = msgspec.json.decode(text, type=KVEventsConfig)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        told = f"{origin} cannot be read ({error}); expected an object such as {_EXAMPLE}. It may have {_KNOWN}"
        raise ConfigError(told, param="kv_events_config") from None
    if not config.is_on:
        return None
    for endpoint in config.endpoints:
        _check(endpoint, origin)
    _check_together([config.of_engine(index) for index in range(num_engines)], origin)
    return config


def listens_on(endpoint: str) -> bool:
    """Whether ``endpoint`` is ours to listen on, and not somebody's to connect to."""
    return endpoint.startswith(_IPC) or host_of(endpoint) in _EVERY_ADDRESS or is_loopback(endpoint)


def is_loopback(endpoint: str) -> bool:
    """Whether nobody on another machine reaches ``endpoint``."""
    host = host_of(endpoint)
    return endpoint.startswith(_IPC) or host in ("localhost", "::1") or host.startswith("127.")


def host_of(endpoint: str) -> str:
    """The host in a tcp address, without brackets."""
    return urlsplit(endpoint).hostname or ""


def _port_of(endpoint: str) -> int | str | None:
    return endpoint if endpoint.startswith(_IPC) else urlsplit(endpoint).port


def _with_offset(endpoint: str, index: int) -> str:
    if not index:
        return endpoint
    if endpoint.startswith(_IPC):
        return f"{endpoint}_dp{index}"
    host, _, port = endpoint.rpartition(":")
    return f"{host}:{int(port) + index}"


def _check_together(configs: list[KVEventsConfig], origin: str) -> None:
    first, endpoints = configs[0], [endpoint for config in configs for endpoint in config.endpoints]
    what = "events and their replay need a port each"
    if len(configs) > 1:
        what += (
            f" in each of {len(configs)} engines, which count on from these: take two that are {len(configs)} or more apart"
        )
        for endpoint in configs[-1].endpoints:
            _check(endpoint, origin)
    if len({_port_of(endpoint) for endpoint in endpoints}) < len(endpoints):
        raise ConfigError(
            f"{origin} has {first.endpoint} and {first.replay_endpoint}; {what}",
            param="kv_events_config",
        )


def _check(endpoint: str, origin: str) -> None:
    try:
        parts = urlsplit(endpoint)
        is_tcp = parts.scheme == "tcp" and bool(parts.hostname) and bool(parts.port) and not parts.path and not parts.query
    except ValueError:
        is_tcp = False
    is_ipc = endpoint.startswith(_IPC + "/") and len(endpoint) > len(_IPC) + 1
    if not (is_tcp or is_ipc) or "\0" in endpoint:
        raise ConfigError(
            f"{origin} has the address {endpoint!r}; expected tcp://HOST:PORT (tcp://*:5557 listens on every address of this "
            "machine, tcp://127.0.0.1:5557 on loopback alone) or ipc:///a/file",
            param="kv_events_config",
        )
