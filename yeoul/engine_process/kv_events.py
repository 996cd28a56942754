"""KVEvents: the thread ``publish_kv_events`` of EngineCore; encodes what the main thread hands over, and answers replays.

Nothing that happens to it holds a step up, and EngineCore goes on where it ends.
"""

from __future__ import annotations

import logging
import queue
import threading
import time

import msgspec

from yeoul.config.kv_events import is_loopback, listens_on, read_kv_events
from yeoul.config.settings import CacheSettings
from yeoul.kv_cache.block_events import BlockEvents
from yeoul.messages.kv_events import KVEventBatch, KVEventSource
from yeoul.transport.event_sockets import EventSockets
from yeoul.transport.thread_names import start_thread

logger = logging.getLogger(__name__)


class KVEvents:
    """The events of the engine with the number ``engine``; where ``settings`` want none, nothing here does anything.

    Batches are numbered from 0 on.
    """

    def __init__(self, settings: CacheSettings, engine: int = 0) -> None:
        config = read_kv_events(settings.kv_events_config)
        self._config = config.of_engine(engine) if config is not None else None
        self._engine = engine
        self._block_size = settings.block_size
        self._blocks: BlockEvents | None = None
        self._queue: queue.SimpleQueue[tuple[int, KVEventBatch] | None] = queue.SimpleQueue()
        self._num_lost = 0
        self._sockets: EventSockets | None = None
        self._thread: threading.Thread | None = None

    @property
    def source(self) -> KVEventSource | None:
        """Where others find them; None where there are none."""
        return msgspec.convert(self._config, KVEventSource, from_attributes=True) if self._config is not None else None

    def of_new_cache(self) -> BlockEvents | None:
        """What a cache has to tell, in place of the one before it."""
        if self._config is not None:
            self._blocks = BlockEvents(self._block_size)
        return self._blocks

    def start(self) -> None:
        """Opens the sockets, so that subscribers of an engine before this one can come back while workers load.

        Raises:
            ConfigError: an address that cannot be used.
        """
        if (config := self._config) is None:
            return
        self._sockets = EventSockets(
            config.endpoint,
            config.replay_endpoint,
            topic=config.topic.encode(),
            num_kept=config.buffer_steps,
            num_queued=config.hwm,
            listens=listens_on(config.endpoint),
        )
        self._thread = start_thread("publish_kv_events", self._publish_all)
        where = " and ".join(config.endpoints)
        if all(map(is_loopback, config.endpoints)):
            logger.info("KV events, with the tokens that users send, go out at %s", where)
        else:
            logger.warning(
                "KV events go out at %s, unencrypted and to everybody who reaches it: the tokens that users send are in "
                "them, so let none but routers reach it",
                where,
            )

    def publish(self) -> None:
        """Hands over what has come together as one batch; never blocks.

        Where too much waits already it is lost, and subscribers see that a number is missing.
        """
        if self._blocks is None or not (events := self._blocks.take()) or (sockets := self._sockets) is None:
            return
        assert self._config is not None
        if self._queue.qsize() >= self._config.max_queue_size:
            self._num_lost += 1
            return
        self._queue.put((self._num_lost, KVEventBatch(time.time(), events, self._engine)))
        sockets.wake()

    def stop(self) -> None:
        """Ends the thread after what it was handed, and closes the sockets."""
        if self._thread is not None and self._sockets is not None:
            self._queue.put(None)
            self._sockets.wake()
            self._thread.join()
            self._sockets.release()
            self._sockets = None

    def _publish_all(self) -> None:
        sockets = self._sockets
        assert sockets is not None
        try:
            self._run(sockets)
        except Exception:
            logger.exception("no more KV events are told, since this went wrong; requests are not concerned")
        finally:
            sockets.close()

    def _run(self, sockets: EventSockets) -> None:
        encoder, num_skipped = msgspec.msgpack.Encoder(), 0
        while True:
            if sockets.wait():  # from the number of an empty batch it sees what it has missed
                sockets.send(encoder.encode(KVEventBatch(time.time(), [], self._engine)))
            while not self._queue.empty():
                if (queued := self._queue.get()) is None:
                    return
                num_lost, batch = queued
                if num_lost > num_skipped:
                    sockets.skip(num_lost - num_skipped)
                    num_skipped = num_lost
                sockets.send(encoder.encode(batch))
