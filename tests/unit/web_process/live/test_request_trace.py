"""A request's trace: spans lie in each other, and what stands side by side adds up to its time."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve, until
from tests.unit.web_process.live.test_causes import ARRIVED, Step, divide, record, step, summary
from tests.unit.web_process.live.trace_parser import ParsedTrace, seconds_of
from yeoul.web_process.live.requests.causes import CauseWalk
from yeoul.web_process.live.requests.request_record import Outage, RequestRecord
from yeoul.web_process.live.traces.request_trace import request_trace


def parsed(one: RequestRecord, *, names_others: bool = True) -> ParsedTrace:
    return ParsedTrace(msgspec.json.encode(request_trace(one, names_others=names_others)))


def as_of(one: RequestRecord, seconds: float = 11.0) -> RequestRecord:
    return msgspec.structs.replace(one, summary=msgspec.structs.replace(one.summary, seconds=seconds))


def test_the_parts_of_a_request_and_its_causes_are_its_whole_time():
    steps = [step(1, 1, 2, prompt=8), step(2, 3, 1, answer=1), step(3, 4.5, 1, answer=1)]
    one = as_of(record(steps, read=ARRIVED + 0.02, tokenized=ARRIVED + 0.05))
    trace = parsed(one)
    (whole,) = trace.top("Web", "request")
    assert (whole["name"], whole["ts"], whole["dur"]) == ("mine", 0.0, 11e6)
    parts = trace.inside("Web", "request")
    assert [part["name"] for part in parts] == ["read", "tokenize", "hand over", "in the engine", "send the rest"]
    assert seconds_of(parts) == pytest.approx(11)
    assert seconds_of(trace.rows["Web", "causes"]) == pytest.approx(11)
    assert [(span["name"], span["ts"] / 1e6, span["dur"] / 1e6) for span in trace.rows["EngineCore", "queue"]] == [
        ("waits", 0.1e6 / 1e6, 0.9)
    ]
    spans = trace.rows["Workers", "steps"]
    assert [(span["name"], span["args"]["num_prompt_tokens"], span["args"]["num_answer_tokens"]) for span in spans] == [
        ("prefill", 8, 0), ("decode", 0, 1), ("decode", 0, 1),
    ]  # fmt: skip
    assert [span["args"].get("shared_with") for span in spans] == [["beside 1"], None, None]


def test_a_record_of_an_earlier_version_is_read_as_one_part():
    parts = parsed(as_of(record([step(1, 1, 2, prompt=8)]))).inside("Web", "request")
    assert [part["name"] for part in parts][:2] == ["hand over", "in the engine"]
    assert seconds_of(parts) == pytest.approx(11)


def test_who_may_not_see_others_reads_no_name_of_theirs():
    one = as_of(record([step(1, 1, 2, prompt=8, others=[("secret", 5)])]))
    assert "secret" in str(parsed(one).events)
    assert "secret" not in str(parsed(one, names_others=False).events)
    assert "beside" not in str(parsed(one, names_others=False).events)


def test_a_request_that_waits_has_a_trace_too():
    one = as_of(record([], summary=summary("waiting", 0), ended=None, closed=None))
    trace = parsed(one)
    assert [span["name"] for span in trace.rows["EngineCore", "queue"]] == ["waits"]
    assert seconds_of(trace.inside("Web", "request")) == pytest.approx(11)
    assert {event["ph"] for event in trace.events} == {"M", "X", "i"}


def test_a_steps_parts_are_counted_from_its_end_and_lie_in_it():
    one = as_of(record([step(1, 1, 2, prompt=8), step(2, 3, 1, answer=1)]))
    one.steps[0].split = [100_000, 1_500_000, 200_000, 50_000, 10_000]
    one.steps[1].split = [400_000, 900_000, 200_000, 0, 10_000]  # more than the step: it was handed out ahead
    trace = parsed(one)
    assert [span["name"] for span in trace.top("Workers", "steps")] == ["prefill", "decode"]
    found = [
        (span["name"], round(span["ts"] / 1e6, 3), round(span["dur"] / 1e6, 3)) for span in trace.inside("Workers", "steps")
    ]
    assert found == [
        ("to the workers", 1.14, 0.1), ("compute", 1.24, 1.5), ("sample", 2.74, 0.2), ("back", 2.94, 0.05),
        ("book", 2.99, 0.01),
        ("compute", 3.0, 0.79), ("sample", 3.79, 0.2), ("book", 3.99, 0.01),
    ]  # fmt: skip


def test_deaths_and_preemptions_are_seen_where_they_happened():
    steps = [step(1, 1, 1, prompt=8), step(2, 3, 1, prompt=8), step(3, 7, 1, prompt=8), step(4, 8, 1, answer=1)]
    one = as_of(record(steps, resumed={2: ["other"], 3: []}, outages=[Outage(ARRIVED + 5, "died", ARRIVED + 6)]))
    trace = parsed(one)
    assert [span["name"] for span in trace.rows["EngineCore", "queue"]] == ["waits", "waits once more", "waits once more"]
    assert {"died", "others have taken over"} <= {event["name"] for event in trace.events}


def test_earlier_steps_of_a_long_answer_are_one_span():
    steps = [step(1, 1, 1, prompt=8), step(2, 2, 1, answer=1), step(3, 3, 1, answer=1), step(4, 4, 1, answer=1)]
    walk = CauseWalk(record(steps))
    walk.take([made for made, _ in steps[:2]])
    one = as_of(record(steps[2:], walked=walk.walked))
    trace = parsed(one)
    spans = trace.rows["Workers", "steps"]
    assert [(span["name"], span["ts"], span["dur"]) for span in spans[:2]] == [
        ("2 earlier steps", 1e6, 2e6), ("decode", 3e6, 1e6),
    ]  # fmt: skip
    assert seconds_of(trace.rows["Web", "causes"]) == pytest.approx(11)


@given(
    st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2), st.integers(0, 9), st.integers(0, 1), st.booleans()), max_size=12)
)
def test_whatever_happens_causes_follow_each_other_and_are_those_of_the_story(parts):
    at, steps, resumed = 0.2, list[Step](), {}
    for serial, (gap, seconds, prompt, answer, is_resumed) in enumerate(parts, 1):
        at += gap
        steps.append(step(serial, at, seconds, prompt=prompt, answer=answer, others=[("other", 3)] if prompt > 4 else []))
        at += seconds
        if is_resumed and serial > 1:
            resumed[serial] = ["other"]
    one = as_of(record(steps, resumed=resumed, num_seen_tokens=4, ended=ARRIVED + at, closed=ARRIVED + at + 1), at + 1)
    trace = parsed(one)
    spans = trace.rows["Web", "causes"]
    assert seconds_of(spans) == pytest.approx(at + 1, rel=1e-6)
    sums: dict[str, float] = {}
    for span in spans:
        sums[span["name"]] = sums.get(span["name"], 0.0) + span["dur"] / 1e6
    told = {name: cause.seconds for name, cause in divide(one, ARRIVED + at + 1).items()}
    for name, seconds in told.items():
        assert sums.get(name, 0.0) == pytest.approx(seconds, abs=1e-5)


def test_a_trace_is_asked_for_while_the_request_lives_and_afterwards():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        answer = asyncio.create_task(server.http.post("/v1/completions", json={"prompt": "hi", "max_tokens": 4}))
        await until(lambda: len(server.client.added) == 1)
        (one,) = (await server.http.get("/debug/requests")).json()["data"]
        waiting = await server.http.get(f"/debug/requests/{one['id']}/trace")
        assert ParsedTrace(waiting.content).about["state"] == "waiting"
        server.client.gate.set()
        await answer
        ended = await server.http.get(f"/debug/requests/{one['id']}/trace")
        assert ended.headers["content-disposition"] == f'inline; filename="{one["id"]}.trace.json"'
        trace = ParsedTrace(ended.content)
        assert trace.about["state"] == "finished"
        parts = [part["name"] for part in trace.inside("Web", "request")]
        assert parts[:4] == ["read", "tokenize", "hand over", "in the engine"]
        for spans in (trace.inside("Web", "request"), trace.rows["Web", "causes"]):
            assert seconds_of(spans) == pytest.approx(trace.about["seconds"], rel=0.001)
        assert len(trace.rows["Workers", "steps"]) == 4

    serve(scene)


def test_nobody_gets_the_trace_of_anothers_request_or_of_none():
    async def scene(server: FakeServer) -> None:
        first, second = ({"authorization": f"Bearer {key}"} for key in ("first", "second"))
        await server.http.post("/v1/completions", json={"prompt": "hi"}, headers=first)
        (one,) = (await server.http.get("/debug/requests", headers=first)).json()["data"]
        for path in (one["id"], "nothing", "", "a/b"):
            assert (await server.http.get(f"/debug/requests/{path}/trace", headers=second)).status_code == 404
        assert (await server.http.get(f"/debug/requests/{one['id']}/trace", headers=first)).status_code == 200

    serve(scene, settings(api_key=["first", "second"]))


def test_the_slowest_are_listed_by_their_time():
    async def scene(server: FakeServer) -> None:
        for _ in range(4):
            await server.complete()
        found = (await server.http.get("/debug/requests?order=slowest&limit=3")).json()
        seconds = [one["seconds"] for one in found["data"]]
        assert seconds == sorted(seconds, reverse=True)
        assert (len(seconds), found["has_more"]) == (3, True)
        refused = await server.http.get(f"/debug/requests?order=slowest&before={found['data'][0]['id']}")
        assert refused.status_code == 400
        assert (await server.http.get("/debug/requests?order=longest")).status_code == 400

    serve(scene)
