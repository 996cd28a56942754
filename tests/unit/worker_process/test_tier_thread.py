"""What a step has the tier keep is what was in the cache then, also in the first moments of its thread."""

from __future__ import annotations

import threading

import numpy as np

from yeoul.engine_process.tier_place import _open_on_disk
from yeoul.kv_cache.tier_file import TierFile
from yeoul.messages.steps import BlockMove, StepInput
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
