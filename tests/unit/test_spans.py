"""What threads note while somebody records: nothing before and afterwards, no more than there is room for."""

from __future__ import annotations

import msgspec

from yeoul.messages.questions import SpansAnswer, SpansQuestion
from yeoul.self_report import MAX_ANSWER_BYTES, Respondent
from yeoul.spans import CAPACITY, MAX_NUM_SPANS, SPANS, SpanRow, Spans

LONG = 60.0


def is_on(row: SpanRow) -> bool:
    return row.is_on


def ask(spans: Spans, recording: int = 1, seconds: float = LONG) -> SpansAnswer:
    return spans.answer(SpansQuestion("Web", recording, seconds))


def test_a_row_is_on_only_while_somebody_records():
    spans = Spans()
    row = spans.row("loop")
    assert not is_on(row)
    ask(spans)
    assert is_on(row)
    row.note("plan", 1.0, 2.0, 7, 3, 40)
    answer = ask(spans, seconds=0.0)
    assert not is_on(row)
    (span,) = answer.spans
    assert (span.name, span.began, span.ended, span.step, span.requests, span.tokens) == ("plan", 1.0, 2.0, 7, 3, 40)
    assert (answer.rows[span.row].name, answer.rows[span.row].tid > 0) == ("loop", True)
    assert row.take(10) == ([], 0)


def test_a_row_that_comes_later_is_on_too_and_there_is_one_of_a_name():
    spans = Spans()
    ask(spans)
    late = spans.row("late")
    assert late.is_on
    assert spans.row("late") is late
    ask(spans, seconds=0.0)
    assert not spans.row("later still").is_on


def test_what_is_not_taken_makes_room_for_what_is_newer_and_is_counted():
    spans = Spans()
    row = spans.row("loop")
    ask(spans)
    for number in range(CAPACITY + 5):
        row.note("step", 0.0, 1.0, number)
    found = [ask(spans)]
    while found[-1].has_more:
        found.append(ask(spans))
    assert [answer.num_lost for answer in found] == [5] + [0] * (len(found) - 1)
    assert [span.step for answer in found for span in answer.spans] == list(range(5, CAPACITY + 5))
    assert max(len(answer.spans) for answer in found) == MAX_NUM_SPANS


def test_the_rest_is_there_after_the_end_and_then_nothing():
    spans = Spans()
    row = spans.row("loop")
    ask(spans)
    for number in range(MAX_NUM_SPANS + 1):
        row.note("step", 0.0, 1.0, number)
    assert ask(spans, seconds=0.0).has_more
    assert not is_on(row)
    assert len(ask(spans, seconds=0.0).spans) == 1
    assert ask(spans, seconds=0.0).rows == []


def test_who_is_not_heard_of_any_longer_records_nothing():
    spans = Spans()
    row = spans.row("loop")
    ask(spans, seconds=1.0)
    row.note("long after", 1e12, 1e12 + 1)
    assert not is_on(row)
    assert ask(spans).spans == []


def test_another_recording_begins_anew_and_a_stranger_ends_none():
    spans = Spans()
    row = spans.row("loop")
    ask(spans, 1)
    row.note("of the first", 0.0, 1.0)
    assert ask(spans, 2).spans == []
    row.note("of the second", 0.0, 1.0)
    assert ask(spans, 1, seconds=0.0).spans == []
    assert is_on(row)
    assert [span.name for span in ask(spans, 2, seconds=0.0).spans] == ["of the second"]


def test_an_answer_fits_onto_the_line_whatever_its_numbers():
    row = SPANS.row("a row of a process")
    respondent = Respondent("Web")
    question = msgspec.msgpack.encode(SpansQuestion("Web", 9, LONG))
    end = msgspec.msgpack.encode(SpansQuestion("Web", 9, 0.0))
    try:
        respondent(question)
        for _ in range(MAX_NUM_SPANS):
            row.note("a name of twenty four ch", 0.123456789, 0.987654321, 2**40, 2**20, 2**30)
        payload = respondent(question)
        assert len(payload) < MAX_ANSWER_BYTES
        assert len(msgspec.msgpack.decode(payload, type=SpansAnswer).spans) == MAX_NUM_SPANS
    finally:
        respondent(end)
