"""One clock is shown in another, whatever a message takes on its way."""

from __future__ import annotations

import pytest

from yeoul.web_process.live.requests.engine_clock import EngineClock


def test_the_message_that_took_least_tells_most():
    clock = EngineClock()
    for sent, took in ((100.0, 0.5), (101.0, 0.01), (102.0, 3.0)):
        clock.note(sent, 5000.0 + sent + took)
    assert clock.here(101.5) == pytest.approx(5101.51, abs=1e-3)


def test_clocks_that_drift_apart_are_followed():
    clock = EngineClock()
    for second in range(10_000):
        clock.note(second * (1 - 2e-5), second + 0.001)
    assert clock.here(9_999 * (1 - 2e-5)) == pytest.approx(9_999, abs=0.01)


def test_another_engines_clock_is_another():
    clock = EngineClock()
    clock.note(0.0, 1.0)
    clock.forget()
    clock.note(500.0, 2.0)
    assert clock.here(500.0) == 2.0
