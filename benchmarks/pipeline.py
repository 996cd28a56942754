"""Tensor parallelism and a pipeline over links that get slower and slower: tokens/s, in turns; no server around the engines.

``python -m benchmarks.pipeline [MODEL] [--streams 8] [--delays 0 1 5 20] [--seconds 6] [--turns 2]``: one worker, two ranks
and two stages (``--distributed-executor-backend loopback``) decode for so many streams. Whatever one worker says to another
passes through a relay that holds it back for so many milliseconds, each way; what EngineCore says to workers does not. All
are up at the same time and take turns, so that what else the machine does meets them alike.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import statistics
import struct
import threading
import time
from collections import deque
from concurrent.futures import Future

from yeoul.config.build import build_settings
from yeoul.config.parts import EngineAddresses
from yeoul.engine_process.launch import engine_settings
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.messages.requests import AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import StepInput, StepResult
from yeoul.model_files.describe import describe
from yeoul.model_files.resolve import resolve_model
from yeoul.scheduler.scheduler import Scheduler
from yeoul.transport import meeting
from yeoul.worker_process import tcp_links
from yeoul.worker_process.executor import executor_maker

LINK = EngineAddresses(input_address="ipc://unused", output_address="ipc://unused")
LAYOUTS = {"one worker": (1, 1), "two ranks": (2, 1), "two stages": (1, 2)}
NUM_PROMPT_TOKENS, MAX_MODEL_LEN, LIMIT = 64, 2048, 300.0
LOOPBACK = socket.inet_aton("127.0.0.1")
ADDRESS = struct.pack("<H", socket.AF_INET)


class Delay:
    """What all relays hold everything back for."""

    seconds = 0.0


class Relay:
    """Takes connections at ``port``, and passes on to ``target`` what comes, and back, each piece ``Delay.seconds`` later."""

    def __init__(self, target: int, port: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection(("127.0.0.1", self._target))
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    held: deque[tuple[float, bytes]] = deque()
    waiting = selectors.DefaultSelector()
    waiting.register(source, selectors.EVENT_READ)
    while True:
        rest = None if not held else max(0.0, held[0][0] - time.monotonic())
        if waiting.select(rest):
            if not (piece := source.recv(1 << 20)):
                sink.close()
                return
            held.append((time.monotonic() + Delay.seconds, piece))
        while held and held[0][0] <= time.monotonic():
            sink.sendall(held.popleft()[1])


class RelayingPlace(meeting.MeetingPlace):
    """Where workers meet, who hear of relays instead of each other."""

    def _answer(self, what: bytes, key: bytes, value: bytes) -> tuple[bytes, bytes]:
        if what == meeting._SET:
            value = _with_relays(value)
        return super()._answer(what, key, value)


def _with_relays(value: bytes) -> bytes:
    """An address as stages write it, or gloo, in whose bytes it stands as the kernel's struct."""
    if value.startswith(b"tcp://127.0.0.1:"):
        return b"tcp://127.0.0.1:%d" % Relay(int(value.rpartition(b":")[2]), 0).port
    place = value.find(LOOPBACK)
    while place >= 4:
        if value[place - 4 : place - 2] == ADDRESS and (port := int.from_bytes(value[place - 2 : place], "big")):
            value = value[: place - 2] + _relay_next_to(port).port.to_bytes(2, "big") + value[place:]
        place = value.find(LOOPBACK, place + 1)
    return value


def _relay_next_to(port: int) -> Relay:
    """Of two ranks gloo lets that of the larger address connect: its relay's is to be as large."""
    for other in range(port + 1, port + 100):
        try:
            return Relay(port, other)
        except OSError:
            continue
    raise OSError(f"no port is free next to {port}")


class Layout:
    """An engine without its process, and streams that go on decoding."""

    def __init__(self, name: str, model: str | None, num_streams: int) -> None:
        self.name = name
        ranks, self.num_stages = LAYOUTS[name]
        settings = build_settings(
            {
                "model": model,
                "device": "cpu",
                "max_model_len": MAX_MODEL_LEN,
                "max_num_seqs": num_streams,
                "num_blocks_override": num_streams * MAX_MODEL_LEN // 16,
                "tensor_parallel_size": ranks,
                "pipeline_parallel_size": self.num_stages,
                "distributed_executor_backend": "loopback",
                "log_level": "warning",
            }
        )
        files = resolve_model(settings.model)
        self.executor = executor_maker(engine_settings(settings, files, describe(files), MAX_MODEL_LEN, LINK))()
        self.executor.start(lambda death: print(death))
        num_blocks = num_streams * MAX_MODEL_LEN // settings.cache.block_size
        self.executor.allocate_cache(num_blocks)
        cache = KVCacheManager(num_blocks, settings.cache.block_size, enable_prefix_caching=False)
        self._scheduler = Scheduler(settings.scheduler, cache, MAX_MODEL_LEN, num_stages=self.num_stages)
        for number in range(num_streams):
            sampling = SamplingParams(temperature=0.0, max_tokens=MAX_MODEL_LEN, seed=number, ignore_eos=True)
            prompt = [100 + number + place for place in range(NUM_PROMPT_TOKENS)]
            self._scheduler.add(AddRequest(request_id=str(number), prompt_token_ids=prompt, sampling=sampling))

    def run(self, seconds: float) -> float:
        """Tokens a second."""
        in_flight: deque[tuple[StepInput, Future[StepResult]]] = deque()
        start, num_tokens = time.monotonic(), 0
        while in_flight or time.monotonic() - start < seconds:
            while len(in_flight) < self.num_stages and time.monotonic() - start < seconds:
                if (step := self._scheduler.schedule()) is None:
                    break
                in_flight.append((step, self.executor.execute(step, LIMIT)))
            if in_flight:
                step, answer = in_flight.popleft()
                num_tokens += sum(len(gain.new_token_ids) for gain in self._scheduler.update(step, answer.result()))
        return num_tokens / (time.monotonic() - start)


def main() -> None:
    """Prints a row a delay."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--delays", type=float, nargs="+", default=[0, 1, 5, 20])
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    tcp_links.MeetingPlace = RelayingPlace  # type: ignore[misc]
    layouts = [Layout(name, options.model, options.streams) for name in LAYOUTS]
    try:
        for layout in layouts:
            layout.run(2.0)
        print(f"| ms | {' | '.join(LAYOUTS)} | stages : ranks |")
        for milliseconds in options.delays:
            Delay.seconds = milliseconds / 1000
            found = {layout.name: [] for layout in layouts}  # type: dict[str, list[float]]
            for _ in range(options.turns):
                for layout in layouts:
                    found[layout.name].append(layout.run(options.seconds))
            rates = [statistics.mean(rate) for rate in found.values()]
            print(
                f"| {milliseconds:g} | {' | '.join(f'{rate:.1f}' for rate in rates)} | {rates[2] / rates[1]:.2f} |",
                flush=True,
            )
    finally:
        Delay.seconds = 0.0
        for layout in layouts:
            layout.executor.stop()


if __name__ == "__main__":
    main()
