"""What tests hold against the code in seconds is not what a busy machine makes of it."""

from __future__ import annotations

from tests import patience


class BusyMachine:
    """The time module of a thread that is always woken an hour late; a look takes it half a second of its own."""

    def __init__(self) -> None:
        self.now, self.num_looks = 0.0, 0

    def sleep(self, seconds: float) -> None:
        self.now += seconds + 3600.0

    def thread_time(self) -> float:
        return 0.5 * self.num_looks

    def look(self) -> bool:
        self.num_looks += 1
        return False


def test_what_the_machine_delays_is_not_counted_and_what_a_look_takes_is(monkeypatch):
    monkeypatch.setattr(patience, "time", machine := BusyMachine())
    assert not patience.until(machine.look, 5.0)
    assert machine.num_looks == 11  # 5 s of 0.51 s each, and a last one
    assert patience.until(lambda: True, 0.0)


def test_the_first_measurement_below_the_limit_is_enough_and_of_three_above_it_the_least_counts():
    measured = iter([3.0, 1.0, 0.5, 9.0, 7.0, 8.0])
    assert patience.least(lambda: next(measured), 2.0) == 1.0
    assert patience.least(lambda: next(measured), 2.0) == 0.5
    assert patience.least(lambda: next(measured), 2.0) == 7.0
