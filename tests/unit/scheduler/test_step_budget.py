"""Prompts beside decodes are cut so that a step lasts no longer than it may, whatever the machine's speed is."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import msgspec
import pytest

from tests.unit.scheduler.desk import Desk, new_request, num_tokens_in
from yeoul.messages.steps import StepInput
from yeoul.scheduler.plan import StepPlan
from yeoul.scheduler.request import Request
from yeoul.scheduler.step_budget import StepBudget

NUM_STREAMS = 7


@dataclass
class Machine:
    """What a step takes: its own milliseconds, those of a decode, those of a token of a prompt."""

    step: float = 5.0
    decode: float = 2.0
    token: float = 1.0

    def milliseconds(self, step: StepInput) -> float:
        counts = num_tokens_in(step).values()
        num_decodes = sum(count == 1 for count in counts)
        return self.step + self.decode * num_decodes + self.token * (sum(counts) - num_decodes)


class TimedDesk(Desk):
    """A desk whose worker says how long it took, by a machine of the test's choice."""

    def __init__(self, machine: Machine, **settings) -> None:
        super().__init__(num_blocks=2000, max_model_len=4096, **settings)
        self.machine = machine

    def take_timed_step(self) -> tuple[dict[str, int], float]:
        step = self.schedule()
        milliseconds = self.machine.milliseconds(step)
        result = self.worker.execute(msgspec.msgpack.encode(step))
        self.give(step, msgspec.structs.replace(result, compute_seconds=milliseconds / 1000))
        return num_tokens_in(step), milliseconds

    def start_streams(self, num_streams: int = NUM_STREAMS, num_steps: int = 10) -> None:
        self.add(*(new_request(f"stream {number}", 20, max_tokens=1000) for number in range(num_streams)))
        for _ in range(num_steps):
            self.take_timed_step()

    def steps_until_prompt_is_done(self, *request_ids: str) -> list[tuple[dict[str, int], float]]:
        steps = []
        while not all(self.outputs.get(request_id) for request_id in request_ids):
            steps.append(self.take_timed_step())
            assert len(steps) < 500, "the prompt is starved"
        return steps


def test_a_step_with_decodes_takes_as_long_as_it_may_and_no_longer():
    desk = TimedDesk(Machine(), max_decode_pause_milliseconds=100)
    desk.start_streams()
    desk.add(new_request("long", 1000))
    times = [milliseconds for _, milliseconds in desk.steps_until_prompt_is_done("long")]
    assert max(times) <= 105
    assert min(times[2:-1]) >= 90


def test_without_a_limit_the_prompt_is_computed_at_once():
    desk = TimedDesk(Machine(), max_decode_pause_milliseconds=0)
    desk.start_streams()
    desk.add(new_request("long", 1000))
    (step,) = desk.steps_until_prompt_is_done("long")
    assert step[0]["long"] == 1000


def test_where_nobody_decodes_chunks_stay_large():
    desk = TimedDesk(Machine(), max_decode_pause_milliseconds=100)
    desk.start_streams(num_streams=1, num_steps=3)
    desk.scheduler.abort(["stream 0"])
    desk.add(new_request("a", 1000), new_request("b", 900))
    ((counts, _),) = desk.steps_until_prompt_is_done("a", "b")
    assert counts == {"a": 1000, "b": 900}


def test_bounded_chunks_end_where_a_block_ends():
    desk = TimedDesk(Machine(), max_decode_pause_milliseconds=60, block_size=16)
    desk.start_streams()
    desk.add(new_request("long", 500))
    *chunks, _ = [counts["long"] for counts, _ in desk.steps_until_prompt_is_done("long")]
    assert len(chunks) > 5
    assert {count % 16 for count in chunks} == {0}


def test_newcomers_share_the_budget_first_come_first_served():
    desk = TimedDesk(Machine(), max_decode_pause_milliseconds=60)
    desk.start_streams()
    desk.add(new_request("first", 200), new_request("second", 200), new_request("third", 30))
    steps = desk.steps_until_prompt_is_done("first", "second", "third")
    assert max(milliseconds for _, milliseconds in steps) <= 65
    last_step_of = {name: number for number, (counts, _) in enumerate(steps) for name in counts if counts[name] > 1}
    assert last_step_of["first"] <= last_step_of["second"] <= last_step_of["third"]


def test_a_prompt_goes_on_where_decodes_alone_take_too_long():
    desk = TimedDesk(Machine(decode=50.0), max_decode_pause_milliseconds=100)
    desk.start_streams()
    desk.add(new_request("long", 1000))
    steps = desk.steps_until_prompt_is_done("long")
    decodes_alone = 5 + 50 * NUM_STREAMS
    shares = sorted(milliseconds / decodes_alone - 1 for _, milliseconds in steps[3:5])
    assert shares == pytest.approx([0.25, 0.5], abs=0.05)


def test_a_prompt_gets_a_block_a_step_on_the_slowest_machine():
    desk = TimedDesk(Machine(token=500.0), max_decode_pause_milliseconds=10)
    desk.start_streams()
    desk.add(new_request("long", 41))
    assert [counts["long"] for counts, _ in desk.steps_until_prompt_is_done("long")] == [4] * 10 + [1]


@pytest.mark.parametrize(
    "wrong",
    [
        Machine(token=30.0),
        Machine(token=0.1),
        Machine(decode=15.0),
        Machine(decode=0.1, step=0.1),
        Machine(25.0, 10.0, 5.0),
        Machine(1.0, 0.4, 0.2),
    ],
    ids=["tokens dear", "tokens cheap", "decodes dear", "decodes cheap", "all dear", "all cheap"],
)
def test_a_wrong_estimate_is_made_good_in_a_few_steps(wrong):
    desk = TimedDesk(wrong, max_decode_pause_milliseconds=100)
    desk.start_streams()
    desk.machine = Machine()
    desk.add(new_request("long", 4000))
    steps = desk.steps_until_prompt_is_done("long")
    later = [milliseconds for _, milliseconds in steps[12:-1]]
    assert max(later) <= 120
    assert len(steps) < 80


def test_a_cold_start_is_soon_forgotten():
    desk = TimedDesk(Machine(step=2000.0), max_decode_pause_milliseconds=100)
    desk.start_streams(num_steps=2)
    desk.machine = Machine()
    for _ in range(20):
        desk.take_timed_step()
    desk.add(new_request("long", 4000))
    steps = desk.steps_until_prompt_is_done("long")
    assert max(milliseconds for _, milliseconds in steps[12:-1]) <= 120
    assert len(steps) < 80


def test_prompts_alone_may_become_much_cheaper():
    desk = TimedDesk(Machine(token=10.0), max_decode_pause_milliseconds=100)
    desk.start_streams(num_steps=1)
    desk.machine = Machine(token=0.1)
    desk.scheduler.abort([f"stream {number}" for number in range(NUM_STREAMS)])
    desk.add(new_request("alone", 1000, max_tokens=1))
    ((counts, _),) = desk.steps_until_prompt_is_done("alone")
    assert counts == {"alone": 1000}


def test_steps_with_prompts_that_vary_do_not_make_decodes_seem_dear():
    """Were they to, prompts would get a share of the decodes' supposed time, and steps take longer than they may."""
    desk = TimedDesk(Machine(step=20.0, decode=5.0), max_decode_pause_milliseconds=100)
    desk.start_streams()
    desk.add(new_request("long", 4000))
    times = []
    for number in range(60):
        desk.machine = Machine(step=(20.0, 0.0, 40.0)[number % 3], decode=5.0)
        times.append(desk.take_timed_step()[1])
    assert sum(times[10:]) / len(times[10:]) <= 110


def test_one_step_that_the_machine_held_up_changes_little():
    desk = TimedDesk(Machine(), max_decode_pause_milliseconds=100)
    desk.start_streams()
    desk.machine = Machine(step=3000.0)
    desk.take_timed_step()
    desk.machine = Machine()
    desk.add(new_request("long", 1000))
    steps = desk.steps_until_prompt_is_done("long")
    assert max(milliseconds for _, milliseconds in steps) <= 110
    assert len(steps) < 20


def test_a_worker_that_does_not_measure_sets_no_limit():
    desk = Desk(num_blocks=500, max_model_len=1000, max_decode_pause_milliseconds=1)
    desk.add(new_request("a", 5, max_tokens=9))
    desk.take_step()
    desk.add(new_request("long", 900))
    assert num_tokens_in(desk.take_step()) == {"a": 1, "long": 900}


def test_the_answer_is_that_of_a_lone_run():
    desk = TimedDesk(Machine(), max_decode_pause_milliseconds=30)
    desk.start_streams()
    message = new_request("long", 300)
    desk.add(message)
    assert len(desk.steps_until_prompt_is_done("long")) > 10
    desk.scheduler.abort([f"stream {number}" for number in range(NUM_STREAMS)])
    desk.run_to_end()
    assert desk.tokens_of("long") == desk.lone_tokens_of(message)


@pytest.mark.parametrize("position", [0, 2000])
def test_a_chunk_far_into_a_long_context_is_smaller_since_it_reads_more_keys(position):
    budget = StepBudget(0.1, 4)
    for num_tokens, start in itertools.product((100, 300, 500), (0, 1000, 3000)):
        plan = plan_of(num_decodes=2, num_prompt_tokens=num_tokens, position=start)
        for _ in range(4):
            budget.learn(plan, 0.01 + 1e-4 * num_tokens + 1e-6 * plan.num_keys)
    plan = plan_of(num_decodes=2)
    num_tokens = budget.chunk(plan, position, 5000)
    seconds = 0.01 + 1e-4 * num_tokens + 1e-6 * num_tokens * (position + num_tokens)
    assert seconds == pytest.approx(0.1, rel=0.05)


def test_a_prompt_of_which_nothing_fits_waits_where_another_has_a_part_already():
    desk = TimedDesk(Machine(), max_decode_pause_milliseconds=60)
    desk.start_streams()
    desk.add(new_request("first", 200), new_request("second", 200))
    assert [name for name in desk.take_timed_step()[0] if not name.startswith("stream")] == ["first"]
    desk.steps_until_prompt_is_done("first", "second")


def plan_of(*, num_decodes: int, num_prompt_tokens: int = 0, position: int = 0) -> StepPlan:
    plan = StepPlan(0, 10_000)
    for number in range(num_decodes):
        plan.take(Request(new_request(f"decode {number}", 1), (0, number), 0.0, 100), 1, [])
    plan.num_decodes = num_decodes
    if num_prompt_tokens:
        request = Request(new_request("prompt", 1), (0, num_decodes), 0.0, 100)
        request.num_computed_tokens = position
        plan.take(request, num_prompt_tokens, [])
    return plan
