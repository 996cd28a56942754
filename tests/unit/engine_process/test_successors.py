"""Workers take the place of others only where they would give the same answers."""

from __future__ import annotations

import pytest

from yeoul.engine_process.successors import check_same_answers, infos_of
from yeoul.errors import ConfigError
from yeoul.messages.reports import WorkerReady


def ready(fingerprint: str) -> WorkerReady:
    return WorkerReady(number=0, pid=7, device="cpu", max_num_blocks=1, block_bytes=1, model_fingerprint=fingerprint)


def test_workers_of_the_same_fingerprint_go_on():
    check_same_answers("fp_a", [ready("fp_a")])
    assert [(info.rank, info.pid, info.device) for info in infos_of([ready("fp_a")])] == [(0, 7, "cpu")]


def test_workers_of_another_fingerprint_are_refused_in_words():
    with pytest.raises(ConfigError, match=r"on cpu they would compute other things than before \(fp_a, now fp_b\)"):
        check_same_answers("fp_a", [ready("fp_b")])
