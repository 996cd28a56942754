"""Every moment of a request has one cause, whatever its steps, its pauses and the deaths between them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.web_process.live.requests.causes import CauseSpans, CauseWalk
from yeoul.web_process.live.requests.request_record import (
    ONE_TOKEN,
    CauseSeconds,
    Outage,
    RecordedStep,
    RequestRecord,
)
from yeoul.web_process.live.requests.request_story import tell
from yeoul.web_process.live.requests.request_summary import RequestSummary, State

ARRIVED = 1000.0


def summary(state: State = "finished", num_output_tokens: int = 4) -> RequestSummary:
    return RequestSummary(
        id="mine", route="/v1/completions", model="m", tenant="", state=state, arrived=ARRIVED, num_prompt_tokens=8,
        num_cached_tokens=0, num_output_tokens=num_output_tokens, ttft_seconds=0.5, seconds=60.0, finish_reason="stop",
    )  # fmt: skip


Step = tuple[RecordedStep, tuple[int, int]]


def step(serial: int, at: float, seconds: float, *, prompt: int = 0, answer: int = 0, **more: Any) -> Step:
    """A step of the request, at so many seconds after its arrival; ``others`` are prompts of others, ``beside`` decodes."""
    others: list[tuple[str, int]] = more.get("others", [])
    num_prompt_tokens, num_decodes = prompt + sum(num for _, num in others), answer + more.get("beside", 0)
    made = RecordedStep(
        serial, serial, ARRIVED + at, seconds, num_prompt_tokens + num_decodes, num_decodes + len(others) + (prompt > 0),
        num_decodes, num_prompt_tokens, more.get("decode_seconds"), [*others, *([("mine", prompt)] if prompt else [])],
    )  # fmt: skip
    return made, (prompt, answer)


def record(steps: list[Step], **fields: Any) -> RequestRecord:
    given: dict[str, Any] = {"summary": summary(), "entered": ARRIVED + 0.1, "ended": ARRIVED + 10, "closed": ARRIVED + 11}
    parts = {made.serial: part for made, part in steps if part != ONE_TOKEN}
    companies = [(made.serial, ["mine", f"beside {made.serial}"]) for made, _ in steps[::3]]
    return RequestRecord(steps=[made for made, _ in steps], parts=parts, companies=companies, **given | fields)


def divide(one: RequestRecord, until: float = ARRIVED + 11) -> dict[str, CauseSeconds]:
    walk = CauseWalk(one)
    walk.take(one.steps)
    return walk.finish(until)


def seconds_of(one: RequestRecord) -> dict[str, float]:
    return {name: round(cause.seconds, 6) for name, cause in divide(one).items()}


def test_each_part_of_an_undisturbed_request_is_its_own():
    one = record([step(1, 1, 2, prompt=8), step(2, 3, 1, answer=1), step(3, 4.5, 1, answer=1)], behind=["before"])
    causes = divide(one)
    assert seconds_of(one) == {
        "reading": 0.1, "queued": 0.9, "own_prefill": 2, "own_decode": 2, "between_steps": 5.0, "slow_reader": 1,
    }  # fmt: skip
    assert list(causes["queued"].others) == ["before"]


def test_the_end_of_a_wait_in_which_blocks_were_read_counts_apart():
    steps = [step(1, 1, 2, prompt=8)]
    parts = seconds_of(record(steps, load_seconds=0.25))
    assert (parts["queued"], parts["loading"], parts["own_prefill"]) == (0.65, 0.25, 2)
    assert seconds_of(record(steps, load_seconds=5.0))["loading"] == 0.9
    walk = CauseSpans(one := record(steps, load_seconds=0.25))
    walk.take(one.steps)
    walk.finish(ARRIVED + 11)
    assert [name for name, _ in walk.spans][:4] == ["reading", "queued", "loading", "own_prefill"]


def test_a_step_that_prompts_of_others_lengthen_is_divided_by_what_decodes_take_alone():
    others = [("a", 30), ("b", 10)]
    one = record([step(1, 0.1, 1, prompt=8), step(2, 1.1, 2, answer=1, others=others, decode_seconds=0.4)])
    cause = divide(one)["prefill_of_others"]
    assert cause.seconds == pytest.approx(1.6)
    assert cause.others == pytest.approx({"a": 1.2, "b": 0.4})


def test_where_nothing_is_known_of_decodes_a_step_is_divided_by_tokens():
    one = record([step(1, 0.1, 1, answer=1, beside=1, others=[("a", 6)])])
    assert divide(one)["prefill_of_others"].seconds == pytest.approx(0.75)


def test_a_preemption_is_the_pause_and_what_is_computed_once_more():
    steps = [step(1, 0.1, 1, prompt=8), step(2, 1.1, 1, answer=1), step(9, 5.1, 1, prompt=9), step(10, 6.1, 1, answer=1)]
    causes = divide(record(steps, resumed={9: ["winner"]}))
    assert causes["preempted"].seconds == pytest.approx(4)
    assert causes["preempted"].num_tokens == 9
    assert list(causes["preempted"].others) == ["winner"]
    assert causes["own_prefill"].seconds == pytest.approx(1)


def test_a_death_takes_the_step_that_was_lost_the_recovery_and_what_is_computed_once_more():
    steps = [step(1, 0.1, 1, prompt=8), step(2, 5.1, 1, prompt=9), step(3, 6.1, 1, answer=1)]
    outages = [Outage(ARRIVED + 2, "Worker_0 died", ARRIVED + 4)]
    causes = divide(record(steps, resumed={2: []}, outages=outages))
    assert causes["recovery"].seconds == pytest.approx(5)
    assert "preempted" not in causes


def test_who_comes_during_a_recovery_waits_for_its_end_and_then_for_its_turn():
    outages = [Outage(ARRIVED - 1, "EngineCore died", ARRIVED + 2)]
    causes = divide(record([step(1, 3, 1, prompt=8)], outages=outages))
    assert causes["recovery"].seconds == pytest.approx(1.9)
    assert causes["queued"].seconds == pytest.approx(1)


def test_steps_that_had_no_room_for_it_are_waiting():
    causes = divide(record([step(1, 0.1, 1, prompt=8), step(3, 2.1, 1, answer=1)]))
    assert causes["queued"].seconds == pytest.approx(1)


def test_what_had_been_computed_for_another_is_a_cold_prefix():
    causes = divide(record([step(1, 0.1, 1, prompt=8)], num_seen_tokens=6, seen_in="first"))
    assert causes["cold_prefix"].seconds == pytest.approx(0.75)
    assert list(causes["cold_prefix"].others) == ["first"]
    assert causes["own_prefill"].seconds == pytest.approx(0.25)


pauses = st.floats(0, 5, allow_nan=False)


@st.composite
def records(draw: st.DrawFn) -> RequestRecord:
    """Any request: steps that overlap, that came before it, deaths in any order, an end or none."""
    at, serial, resumed = 0.0, 0, {}
    steps: list[Step] = []
    for _ in range(draw(st.integers(0, 12))):
        at += draw(st.floats(-1, 3, allow_nan=False))
        serial += draw(st.integers(1, 3))
        others = draw(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 40)), max_size=2))
        one = step(
            serial, at, draw(pauses), prompt=draw(st.integers(0, 20)), answer=draw(st.integers(0, 2)), others=others,
            beside=draw(st.integers(0, 3)), decode_seconds=draw(st.none() | pauses),
        )  # fmt: skip
        steps.append(one)
        if draw(st.booleans()):
            resumed[serial] = draw(st.lists(st.sampled_from(["a", "b"]), max_size=2))
    outages = [
        Outage(ARRIVED + draw(st.floats(-5, 30)), "died", draw(st.none() | st.floats(900, 1100)))
        for _ in range(draw(st.integers(0, 3)))
    ]
    ended = draw(st.none() | st.floats(ARRIVED, ARRIVED + 40, allow_nan=False))
    return record(
        steps,
        summary=summary(
            draw(st.sampled_from(["waiting", "running", "finished", "aborted", "failed"])), draw(st.integers(0, 4))
        ),
        entered=ARRIVED + draw(pauses),
        ended=ended,
        closed=None,
        resumed=resumed,
        outages=outages,
        load_seconds=draw(st.just(0.0) | pauses),
        num_seen_tokens=draw(st.integers(0, 30)),
        seen_in="a",
    )


@given(records(), st.floats(0, 50, allow_nan=False), st.integers(0, 12))
def test_causes_add_up_to_the_whole(one, length, num_folded):
    until = max([ARRIVED + length, *(part.end for part in one.steps)])
    causes = divide(one, until)
    assert sum(cause.seconds for cause in causes.values()) == pytest.approx(until - ARRIVED, abs=1e-6)
    assert all(cause.seconds >= -1e-9 for cause in causes.values())
    # What was folded before, as of a long answer, changes nothing.
    first = msgspec.structs.replace(one, steps=one.steps[:num_folded])
    walk = CauseWalk(first)
    walk.take(first.steps)
    rest = msgspec.structs.replace(one, steps=one.steps[num_folded:], walked=walk.walked if first.steps else None)
    assert divide(rest, until).keys() == causes.keys()
    for name, cause in divide(rest, until).items():
        assert cause.seconds == pytest.approx(causes[name].seconds, abs=1e-6)


@given(records())
def test_steps_that_are_taken_the_short_way_come_to_the_same(one):
    spelled_out = msgspec.structs.replace(one, parts={step.serial: one.part_of(step) for step in one.steps})
    short, long = divide(one), divide(spelled_out)
    assert short.keys() == long.keys()
    for name, cause in short.items():
        other = long[name]
        assert cause.seconds == pytest.approx(other.seconds, abs=1e-9), name
        assert (cause.num_tokens, cause.num_steps, cause.others) == (other.num_tokens, other.num_steps, other.others), name


@given(records())
def test_every_record_can_be_told_and_its_words_say_something(one):
    story = tell(one, "http://127.0.0.1:8000", needs_key=True)
    assert all(cause.words for cause in story.causes)
    assert sum(cause.seconds for cause in story.causes) == pytest.approx(story.seconds, abs=1e-5)
    assert [moment.at for moment in story.timeline] == sorted(moment.at for moment in story.timeline)
    assert story.num_steps == len(one.steps)
    assert all("mine" not in part.shared_with for part in story.steps)
    for place, part in enumerate(story.steps):
        assert f"beside {one.steps[place - place % 3].serial}" in part.shared_with
