"""The sum of a load, and how it is shown."""

import json

import pytest

from tests.unit.cli.benchmark.sample_report import answer, report_on
from yeoul.cli.benchmark.plan import RequestTimes
from yeoul.cli.benchmark.report import LoadReport, inter_token_seconds
from yeoul.cli.benchmark.report_views import as_json, as_table, headline, remarks, short

FAILED = RequestTimes(error="no", total_seconds=9.0)


def test_a_request_that_failed_adds_no_times():
    report = report_on(answer(), FAILED)
    assert (report.num_completed, report.num_failed, report.first_error, report.errors) == (1, 1, "no", {"no": 1})
    assert report.request_duration is not None
    assert report.request_duration.max == 2200.0
    assert report.time_per_output_token is not None
    assert report.time_per_output_token.mean == 600.0
    assert report.output_tokens_per_second == 0.75


def test_a_load_where_all_fails_is_still_a_report():
    report = report_on(FAILED)
    assert report.time_to_first_token is None
    assert json.loads(as_json(report))["inter_token"] is None
    assert as_table(report).row_count == 0


def test_tokens_of_one_read_share_the_time_since_the_read_before():
    burst = answer(arrivals=(1.0, 1.6, 1.7), arrival_events=[2, 3, 1], output_tokens=6)
    assert list(inter_token_seconds(burst)) == pytest.approx([0.2, 0.2, 0.2, 0.1])
    report = report_on(burst)
    assert report.inter_token is not None
    assert report.inter_token.min > 0
    assert report.inter_token.max == 200.0
    assert report.between_arrivals is not None
    assert report.between_arrivals.max == 600.0
    assert report.shared_arrival_share == pytest.approx(5 / 6, abs=1e-4)
    assert any("shared a read" in remark for remark in remarks(report))


def test_what_comes_in_one_read_alone_has_no_time_between():
    report = report_on(answer(arrivals=(1.0,), arrival_events=[4], output_tokens=4))
    assert report.inter_token is None
    assert report.time_per_output_token is not None
    assert report.time_per_output_token.mean == 0.0


def test_the_course_holds_every_token_and_no_more():
    report = report_on(
        answer(0.0), answer(1.5, output_tokens=30), answer(0.5, arrivals=(), output_tokens=7, total_seconds=3.5)
    )
    course = report.course
    total = sum(rate * course.interval_seconds for rate in course.output_tokens_per_second)
    assert total == pytest.approx(report.total_output_tokens, rel=0.001)
    assert len(course.requests_in_flight) == len(course.output_tokens_per_second)
    assert report.most_in_flight == 3
    assert 2 < max(course.requests_in_flight) <= 3
    assert sum(course.requests_in_flight) * course.interval_seconds == pytest.approx(2.2 + 2.2 + 3.5, rel=0.001)


def test_a_request_that_begins_as_another_ends_is_not_beside_it():
    assert report_on(answer(0.0, arrivals=(1.0,)), answer(1.0, arrivals=(1.0,))).most_in_flight == 1


def test_an_open_load_tells_how_late_it_was():
    report = report_on(answer(1.25, planned_seconds=1.0), request_rate=2.0, max_concurrency=None)
    assert report.send_delay is not None
    assert report.send_delay.max == 250.0
    assert "2 requests/s due, up to 1 at a time" in headline(report)
    assert any("sent late" in remark for remark in remarks(report))


def test_a_plain_run_needs_no_remark():
    assert remarks(report_on(answer())) == []


def test_a_busy_client_is_told():
    assert "raise --num-clients" in remarks(report_on(answer(), busy_shares=(0.2, 0.95)))[0]


def test_events_that_are_not_tokens_are_told():
    assert "2.00 tokens an event" in remarks(report_on(answer(output_tokens=6)))[0]


def test_the_json_is_read_back_whole():
    import msgspec

    report = report_on(answer(), answer(1.0), FAILED)
    assert msgspec.json.decode(as_json(report), type=LoadReport) == report


def test_numbers_have_the_digits_that_tell_something():
    assert [short(value) for value in (0, 0.012, 5.1, 12.34, 390.2, 12345.6)] == [
        "0.00",
        "0.01",
        "5.10",
        "12.3",
        "390.2",
        "12,346",
    ]
