"""What a step has the tier keep is what was in the cache then, also in the first moments of its thread."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from yeoul.engine_process.tier_place import _open_on_disk
from yeoul.kv_cache.tier_file import TierFile, parse_entries
from yeoul.messages.steps import NEIGHBOUR_SLOTS, BlockMove, StepInput
from yeoul.worker_process.tier_thread import TierThread

NAME = b"n" * 32


def test_a_block_that_is_kept_while_the_file_is_still_opened_is_kept_as_it_was(tmp_path, monkeypatch):
    may_open, really_open = threading.Event(), TierFile.open

    def open_later(*arguments):
        assert may_open.wait(10.0)
        return really_open(*arguments)

    monkeypatch.setattr(TierFile, "open", open_later)
    tmp_path.chmod(0o700)
    place = _open_on_disk(str(tmp_path), b"k" * 32, 4096, 1, 1 << 20)
    assert place.files is not None
    blocks = np.full((4, 4096), 255, dtype=np.uint8)
    thread = TierThread(place.files, 0, blocks)
    numbers = [0, 1, 2]
    thread.begin(StepInput(step_number=0, scheduled=[], stores=[BlockMove(number, number, NAME, 1) for number in numbers]))
    may_open.set()
    with thread._changed:
        assert thread._changed.wait_for(lambda: thread._num_left == 0, 10.0)
    blocks[:] = 0
    thread.begin(StepInput(step_number=1, scheduled=[], loads=[BlockMove(number, number, NAME, 1) for number in numbers]))
    with thread._changed:
        assert thread._changed.wait_for(lambda: thread._num_left == 0, 10.0)
    assert [result.failure for result in thread.ended(waits=False)] == [None] * 6
    assert (blocks[numbers] == 255).all()
    thread.stop()
    place.close()


def test_what_is_forgotten_before_it_is_written_is_never_written_and_what_takes_its_slot_is(tmp_path, monkeypatch):
    is_writing, may_write, written, really_write = threading.Event(), threading.Event(), [], TierFile.write

    def write_later(file, slot, name, data, stamp):
        written.append((slot, name))
        is_writing.set()
        assert may_write.wait(10.0)
        really_write(file, slot, name, data, stamp)

    monkeypatch.setattr(TierFile, "write", write_later)
    tmp_path.chmod(0o700)
    place = _open_on_disk(str(tmp_path), b"k" * 32, 4096, 1, 1 << 20)
    assert place.files is not None
    thread = TierThread(place.files, 0, np.zeros((4, 4096), dtype=np.uint8))
    num_places = len(thread._places)
    thread.begin(StepInput(step_number=0, stores=[BlockMove(number, number, NAME, 1) for number in range(3)]))
    assert is_writing.wait(10.0)
    thread.begin(StepInput(step_number=1, emptied_slots=[0, 1]))
    later = BlockMove(3, 3, b"m" * 32, 2)
    thread.begin(StepInput(step_number=2, stores=[later], emptied_slots=[3]))
    may_write.set()
    with thread._changed:
        assert thread._changed.wait_for(lambda: thread._num_left == 0, 10.0)
    assert written == [(0, NAME), (2, NAME), (3, b"m" * 32)]
    assert sorted(result.slot for result in thread.ended(waits=False)) == [0, 0, 1, 1, 2, 3, 3]
    assert len(thread._places) == num_places
    thread.stop()
    left = parse_entries(Path(place.files.entry_paths[0]).read_bytes())
    assert [(entry.slot, entry.name) for entry in left] == [(2, NAME), (3, b"m" * 32)]
    place.close()


def test_blocks_of_another_engine_are_read_and_left_as_they_are(tmp_path):
    tmp_path.chmod(0o700)
    other, own = (_open_on_disk(str(tmp_path), b"k" * 32, 4096, 1, 1 << 20, 2) for _ in range(2))
    assert other.files is not None
    assert own.files is not None
    file = TierFile.open(other.files.slot_paths[0], other.files.entry_paths[0], 4096)
    file.write(5, NAME, memoryview(bytes([7]) * 4096), 1)
    entries = Path(other.files.entry_paths[0]).read_bytes()
    neighbours = own.neighbours
    assert neighbours is not None
    neighbours.look(at_once=True)
    slot = neighbours.find(NAME)
    assert slot == NEIGHBOUR_SLOTS + 5
    blocks = np.zeros((4, 4096), dtype=np.uint8)
    thread = TierThread(own.files, 0, blocks)

    stems = [stem.path for stem in neighbours.stems]

    def load() -> str | None:
        thread.begin(StepInput(step_number=0, loads=[BlockMove(2, slot, NAME, 1)], neighbours=stems))
        with thread._changed:
            assert thread._changed.wait_for(lambda: thread._num_left == 0, 10.0)
        (result,) = thread.ended(waits=False)
        assert result.slot == slot
        return result.failure

    assert load() is None
    assert (blocks[2] == 7).all()
    file.write(5, b"m" * 32, memoryview(bytes([8]) * 4096), 2)
    changed = Path(other.files.entry_paths[0]).read_bytes()
    assert load() == "it is not what was written"
    assert Path(other.files.entry_paths[0]).read_bytes() == changed != entries
    thread.stop()
    for place in (other, own):
        place.close()
