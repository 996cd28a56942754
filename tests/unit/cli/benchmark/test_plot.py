"""The picture of a report: what it says, and that it is well formed whatever the load was."""

import math
from xml.etree import ElementTree

import pytest

from tests.unit.cli.benchmark.sample_report import answer, report_on
from yeoul.cli.benchmark.axes import Scale, linear_ticks, log_ticks, short
from yeoul.cli.benchmark.plan import RequestTimes
from yeoul.cli.benchmark.plot import draw

SVG = "{http://www.w3.org/2000/svg}"


def texts(picture):
    return [element.text or "" for element in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def test_a_streamed_load_has_all_panels_with_units():
    told = texts(draw(report_on(*(answer(0.1 * number) for number in range(20)))))
    for title in (
        "Time to first token",
        "Time between tokens",
        "Time of the whole request",
        "Times by percentile",
        "Output tokens a second, over time",
        "Requests in flight, over time",
    ):
        assert title in told
    assert {"milliseconds", "percentile", "tokens/s", "% of requests"} <= set(told)


def test_a_load_that_was_not_streamed_leaves_out_what_it_does_not_know():
    told = texts(draw(report_on(answer(arrivals=(), output_tokens=5), streams=False)))
    assert "Time of the whole request" in told
    assert "Time to first token" not in told
    assert "Time between tokens" not in told


def test_a_load_where_all_failed_is_still_a_picture():
    told = texts(draw(report_on(RequestTimes(error="no", total_seconds=1.0))))
    assert any("1 FAILED" in text for text in told)


def test_names_are_escaped():
    assert any("Abacus <9> & Co" in text for text in texts(draw(report_on(answer(), model="<&>"))))


def test_few_times_claim_no_99th_percentile():
    few = texts(draw(report_on(*[answer()] * 20)))
    many = texts(draw(report_on(*[answer()] * 200)))
    assert "first token, p50 / longest" in few
    assert "first token, p50 / p99" in many
    assert "99" not in few
    assert "99" in many


@pytest.mark.parametrize("arrivals", [(0.5,), (0.0, 0.0), (1.0, 1.000001), (0.001, 900.0)])
def test_every_number_in_the_picture_is_finite_and_inside(arrivals):
    root = ElementTree.fromstring(draw(report_on(answer(arrivals=arrivals), duration_seconds=max(*arrivals, 0.001))))
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    for element in root.iter():
        for points in filter(None, [element.get("points")]):
            for point in points.split():
                x, y = map(float, point.split(","))
                assert 0 <= x <= width
                assert 0 <= y <= height
        for name in ("x", "y", "x1", "x2", "y1", "y2"):
            value = float(element.get(name, "0"))
            assert math.isfinite(value)
            assert 0 <= value <= max(width, height)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (3.0, 97.0), (0.0, 1e6), (9.67, 36.6), (0.0, 0.003)])
def test_linear_ticks_are_round_few_and_inside(low, high):
    ticks = linear_ticks(low, high, 7)
    assert 2 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)


@pytest.mark.parametrize(("low", "high"), [(0.1, 30.0), (5.0, 9.0), (0.001, 1e6), (7.0, 46.0), (1.0, 4.0)])
def test_logarithmic_ticks_are_few_and_inside(low, high):
    ticks = log_ticks(low, high, 7)
    assert 2 <= len(ticks) <= 7
    assert all(low * 0.999 <= tick <= high * 1.001 for tick in ticks)


def test_a_scale_maps_its_ends_and_keeps_what_is_outside_at_them():
    scale = Scale(1.0, 100.0, 0.0, 200.0, is_logarithmic=True)
    assert (scale(1.0), scale(10.0), scale(100.0)) == pytest.approx((0.0, 100.0, 200.0))
    assert (scale(0.0), scale(1e9)) == (0.0, 200.0)


def test_captions_have_three_digits():
    assert [short(value) for value in (0, 0.0123, 5.1, 12.34, 390.2, 12345.6)] == [
        "0",
        "0.0123",
        "5.10",
        "12.3",
        "390",
        "12,346",
    ]
