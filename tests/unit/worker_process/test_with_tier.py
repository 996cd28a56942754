"""Scheduler, the fake model's worker and a tier in a folder: what comes from below gives the answers of what is computed."""

from __future__ import annotations

import os
import threading
from collections import deque
from pathlib import Path

import pytest

from tests.unit.worker_process.fake_worker import fake_worker
from tests.unit.worker_process.test_with_scheduler import Engine, expected_of, messages
from yeoul.config.settings import SchedulerSettings
from yeoul.engine_process.tier_place import _open_on_disk
from yeoul.kv_cache.block_events import BlockEvents
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.kv_cache.tier_file import TierFile
from yeoul.messages.kv_events import BlockStored
from yeoul.messages.requests import AddRequest
from yeoul.messages.steps import TierFiles
from yeoul.scheduler.growth import GrowthForecast
from yeoul.scheduler.scheduler import Scheduler
from yeoul.scheduler.tier_moves import TierMoves

KEY = b"k" * 32
BLOCK_BYTES = 4 * 8


class TieredEngine(Engine):
    """An engine over ``folder``. ``kill_workers`` replaces the worker as EngineCore does; ``stop`` leaves the files."""

    def __init__(self, folder: Path, *, num_blocks=400, tier_bytes=1 << 20, max_num_in_flight=1, **budgets) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.num_blocks = num_blocks
        self.max_num_in_flight = max_num_in_flight
        self.in_flight = deque()
        place = _open_on_disk(str(folder), KEY, BLOCK_BYTES, 1, tier_bytes)
        assert place.files is not None
        self.place, self.files = place, place.files
        self._new_worker()
        settings = SchedulerSettings(**{"max_num_seqs": 8, "max_num_batched_tokens": 512, "check_invariants": True} | budgets)
        self.cache = KVCacheManager(num_blocks, 4, True, events=BlockEvents(4))
        self.moves = TierMoves(self.place.index, self.cache, 1, 64)
        forecast = GrowthForecast(4, first_guess_tokens=1)
        self.scheduler = Scheduler(settings, self.cache, max_model_len=256, forecast=forecast, moves=self.moves)
        self.tokens = {}

    def _new_worker(self) -> None:
        self.worker = fake_worker(self.num_blocks)
        self.worker.allocate_cache(self.num_blocks, self.files)

    def run_all(self, wanted: list[AddRequest]) -> None:
        for message in wanted:
            self.add(message)
        self.run()
        for message in wanted:
            assert self.tokens[message.request_id] == expected_of(message), message.request_id
        assert self.cache.num_used_blocks == 0

    def hear_of_moves(self) -> None:
        """Hears of all that is on its way, and computes nothing."""
        tier = self.worker._tier
        assert tier is not None
        with tier._changed:
            assert tier._changed.wait_for(lambda: tier._num_left == 0, 10.0)
        self.moves.note(tier.ended(waits=False))

    def kill_workers(self) -> None:
        self.in_flight.clear()
        self.scheduler.note_crash("killed")
        self._stop_worker()
        self._new_worker()

    def _stop_worker(self) -> None:
        self.worker.allocate_cache(self.num_blocks)

    def use_files(self, slots_path: str, entries_path: str) -> None:
        """From now on the worker moves blocks to these."""
        most = self.files.max_num_stores
        self.worker.allocate_cache(self.num_blocks, TierFiles([slots_path], [entries_path], most))

    def stop(self) -> None:
        self._stop_worker()
        self.place.close()

    @property
    def statistics(self):
        return self.scheduler.statistics()


@pytest.fixture
def make(tmp_path):
    engines: list[TieredEngine] = []

    def make_engine(**options) -> TieredEngine:
        while engines:
            engines.pop().stop()
        engines.append(TieredEngine(tmp_path / "kv", **options))
        return engines[-1]

    yield make_engine
    while engines:
        engines.pop().stop()


AHEAD = {"async_scheduling": True, "max_num_in_flight": 2}


def long_message(request_id="long", num_tokens=181) -> AddRequest:
    message = messages()[5]
    prompt = [(place * 7 + 3) % 256 for place in range(num_tokens)]
    return AddRequest(request_id=request_id, prompt_token_ids=prompt, sampling=message.sampling)


def slot_files(engine: TieredEngine) -> list[str]:
    return engine.files.slot_paths


@pytest.mark.parametrize("ahead", [{}, AHEAD])
@pytest.mark.parametrize("num_blocks", [70, 400])
def test_a_crowd_gets_its_own_tokens_again_and_again(make, num_blocks, ahead):
    """With 70 blocks much is evicted, and comes back from below."""
    for _ in range(2):
        engine = make(num_blocks=num_blocks, tier_bytes=3 << 20, **ahead)
        engine.run_all(messages())
    assert engine.statistics.total_tier_loaded_blocks > 0
    assert engine.statistics.total_tier_failed_blocks == 0


def test_a_prefix_survives_a_restart(make):
    make().run_all([long_message()])
    engine = make()
    engine.run_all([long_message()])
    assert engine.statistics.total_tier_loaded_blocks == 45  # of 181 tokens all full blocks but the last, which is computed
    assert engine.statistics.total_prefix_hit_tokens == 45 * 4


def test_routers_hear_of_what_was_loaded_as_of_what_was_computed(make):
    """A prefix in the cache is one, wherever it came from; with the tokens that it is of."""
    told = []
    for _ in range(2):
        engine = make()
        engine.run_all([long_message()])
        assert engine.cache.events is not None
        stored = [event for event in engine.cache.events.take() if isinstance(event, BlockStored)]
        told.append(
            (
                [name for event in stored for name in event.block_hashes],
                [token for event in stored for token in event.token_ids],
                stored[0].parent_block_hash,
            )
        )
    assert told[0] == told[1]


def test_workers_that_die_leave_what_they_had_computed(make):
    engine = make()
    message = long_message()
    engine.add(message)
    for _ in range(30):
        engine.step()
    engine.hear_of_moves()
    engine.kill_workers()
    engine.run()
    assert engine.tokens[message.request_id] == expected_of(message)
    assert engine.statistics.total_tier_loaded_blocks >= 45


def test_workers_that_die_again_and_again_change_no_answer(make):
    engine = make(num_blocks=70, tier_bytes=3 << 20, **AHEAD)
    for message in messages():
        engine.add(message)
    for count in range(150):
        engine.step()
        if count % 29 == 0:
            engine.kill_workers()
    engine.run()
    for message in messages():
        assert engine.tokens[message.request_id] == expected_of(message)


def test_who_waits_for_blocks_keeps_nobody(make):
    """While its blocks are read, others get their tokens; and it comes on as soon as they are there."""
    make().run_all([long_message()])
    engine = make(max_num_in_flight=1)
    other = messages()[3]
    engine.add(long_message())
    engine.add(other)
    step = engine.scheduler.schedule()
    assert step is not None
    assert [entry.request_id for entry in step.scheduled] == [other.request_id]
    assert len(step.loads) == 45
    for output in engine.scheduler.update(step, engine.worker.execute(step)):
        engine.tokens[output.request_id] += output.new_token_ids
    engine.run()
    assert engine.tokens[other.request_id] == expected_of(other)
    assert engine.tokens["long"] == expected_of(long_message())


def test_who_waits_for_a_place_besides_is_not_told_that_it_waited_for_the_disk(make):
    make().run_all([long_message()])
    engine = make()
    now = 100.0
    engine.scheduler._clock = lambda: now
    engine.add(long_message())
    engine.step()
    engine.hear_of_moves()
    waiting = engine.scheduler._requests["long"]
    engine.moves.prepare(101.0)
    now = 150.0
    engine.run()
    assert waiting.load_seconds == 1.0
    assert waiting.queue_seconds == 50.0


def test_two_that_need_the_same_share_one_load(make):
    make().run_all([long_message()])
    engine = make()
    engine.run_all([long_message("a"), long_message("b")])
    assert engine.statistics.total_tier_loaded_blocks == 45


def test_who_leaves_while_its_blocks_are_read_leaves_nothing(make):
    make().run_all([long_message()])
    engine = make()
    engine.add(long_message())
    step = engine.scheduler.schedule()
    engine.scheduler.abort(["long"])
    engine.scheduler.update(step, engine.worker.execute(step))
    engine.run()
    assert engine.cache.num_used_blocks == 0
    engine.run_all([long_message("again")])


@pytest.mark.parametrize("place", [0, 20, 44])
def test_a_damaged_block_is_computed_anew(make, place):
    make().run_all([long_message()])
    engine = make()
    slots = engine.place.index.find(engine_hashes(engine))
    with open(slot_files(engine)[0], "r+b") as file:
        file.seek(slots[place] * 4096 + 5)
        file.write(b"damage")
    engine.run_all([long_message()])
    statistics = engine.statistics
    assert statistics.total_tier_failed_blocks == 1
    assert statistics.total_prefix_hit_tokens == place * 4
    engine = make()  # and stored once more
    engine.run_all([long_message()])
    assert engine.statistics.total_prefix_hit_tokens == 45 * 4


def engine_hashes(engine: TieredEngine) -> list[bytes]:
    engine.add(long_message("look"))
    request = engine.scheduler._requests["look"]
    hashes = request.hashes_of(45, 4)
    engine.scheduler.abort(["look"])
    return list(hashes)


@pytest.mark.parametrize("which", ["slots", "entries"])
def test_a_file_that_is_cut_off_while_it_is_used_costs_only_time(make, which):
    make().run_all([long_message()])
    engine = make()
    files = engine.files
    os.truncate((files.slot_paths if which == "slots" else files.entry_paths)[0], 0)
    engine.run_all([long_message(), *messages()])
    assert engine.statistics.total_tier_failed_blocks == 45


def test_a_full_disk_costs_nobody_an_answer(make, caplog):
    engine = make()
    engine.use_files("/dev/full", engine.files.entry_paths[0])
    engine.run_all([long_message(), *messages()])
    assert engine.statistics.total_tier_stored_blocks == 0
    assert engine.statistics.total_tier_failed_blocks > 0
    assert [record.getMessage() for record in caplog.records if "below the cache" in record.getMessage()] == [
        "a block below the cache could not be stored (No space left on device), and is not kept; this is said once"
    ]


def test_files_that_are_gone_cost_nobody_an_answer(make):
    engine = make()
    engine.use_files("/nowhere", "/nowhere")
    engine.run_all(messages())
    assert engine.statistics.total_tier_stored_blocks == 0


def test_another_salt_finds_nothing(make):
    make().run_all([long_message()])
    engine = make()
    message = AddRequest(
        request_id="other", prompt_token_ids=long_message().prompt_token_ids, sampling=long_message().sampling, cache_salt="b"
    )
    engine.run_all([message])
    assert engine.statistics.total_prefix_hit_tokens == 0


def test_what_a_client_wants_forgotten_is_forgotten_after_a_restart_as_well(make):
    engine = make()
    engine.run_all([long_message()])
    engine.scheduler.forget_prefixes()
    engine.run()
    engine = make()
    assert len(engine.place.index) == 0
    engine.run_all([long_message()])
    assert engine.statistics.total_prefix_hit_tokens == 0


def test_no_step_waits_for_the_disk(make, monkeypatch):
    """Whatever is done to the files, the thread does it."""
    threads = set()

    def watch(name):
        real = getattr(TierFile, name)

        def watched(*arguments):
            threads.add(threading.current_thread().name)
            return real(*arguments)

        monkeypatch.setattr(TierFile, name, staticmethod(watched) if name == "open" else watched)

    for name in ("open", "write", "read", "empty"):
        watch(name)
    make().run_all([long_message()])
    engine = make()
    engine.run_all([long_message()])
    engine.scheduler.forget_prefixes()
    engine.run()
    assert threads == {"KVTier"}


@pytest.mark.parametrize("ends", ["step", "stop"])
def test_what_is_forgotten_is_emptied_though_its_step_was_lost_or_the_worker_stops(make, ends):
    engine = make()
    engine.run_all([long_message()])
    engine.scheduler.forget_prefixes()
    step = engine.scheduler.schedule()
    assert len(step.emptied_slots) > 45
    if ends == "step":
        engine.in_flight.append(step)
        engine.kill_workers()
        engine.run()
    else:
        engine.worker.execute(step)
    assert len(make().place.index) == 0


def test_a_request_that_fails_leaves_nothing_below(make):
    """What went wrong may lie in any of its blocks."""
    engine = make()
    engine.add(long_message())
    for _ in range(20):
        engine.step()
    engine.hear_of_moves()
    assert len(engine.place.index) > 0
    request = engine.scheduler._requests["long"]
    engine.scheduler._prefixes.forget(request)
    engine.scheduler.abort(["long"])
    engine.run()
    assert len(make().place.index) == 0


def test_the_tier_holds_no_more_than_it_may(make):
    engine = make(tier_bytes=40 * 4096)
    engine.run_all(messages())
    statistics = engine.statistics
    assert 0 < statistics.num_tier_blocks <= statistics.max_num_tier_blocks < 40
    assert os.path.getsize(slot_files(engine)[0]) + os.path.getsize(engine.files.entry_paths[0]) <= 40 * 4096
