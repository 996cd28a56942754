"""The picture of a report: what it says, and that it is one whatever the load was."""

import builtins
from xml.etree import ElementTree

import pytest

from tests.unit.cli.benchmark.sample_report import answer, report_on
from yeoul.cli.benchmark.plan import RequestTimes
from yeoul.cli.benchmark.plot import FORMATS, check_plotting, draw
from yeoul.errors import ConfigError

SVG = "{http://www.w3.org/2000/svg}"


def texts(report):
    root = ElementTree.fromstring(draw(report, "svg"))
    return ["".join(element.itertext()).strip() for element in root.iter(f"{SVG}text")]


def test_a_streamed_load_has_all_panels_with_units():
    told = texts(report_on(*(answer(0.1 * number) for number in range(20))))
    for title in (
        "Time to first token",
        "Time between tokens",
        "Time of the whole request",
        "Times by percentile",
        "Output tokens over time",
        "Requests in flight over time",
    ):
        assert title in told
    assert {"milliseconds", "percentile", "tokens/s", "% of requests"} <= set(told)


def test_a_load_that_was_not_streamed_leaves_out_what_it_does_not_know():
    told = texts(report_on(answer(arrivals=(), output_tokens=5), streams=False))
    assert "Time of the whole request" in told
    assert "Time to first token" not in told
    assert "Time between tokens" not in told


def test_a_load_where_all_failed_is_still_a_picture():
    told = texts(report_on(RequestTimes(error="no", total_seconds=1.0)))
    assert any("0 of 1 requests" in text for text in told)


@pytest.mark.parametrize("name", ["<&>", "$x^2$", "여울"])
def test_a_model_may_be_called_anything(name):
    assert any(name in text for text in texts(report_on(answer(), model=name)))


def test_few_times_claim_no_99th_percentile():
    few = texts(report_on(*[answer()] * 20))
    many = texts(report_on(*[answer()] * 200))
    assert "longest 1,000 ms" in few
    assert "p99 1,000 ms" in many
    assert "99" not in few
    assert "99" in many


@pytest.mark.parametrize("arrivals", [(0.5,), (0.0, 0.0), (1.0, 1.000001), (0.001, 900.0)])
@pytest.mark.parametrize("picture_format", FORMATS)
def test_every_load_is_a_picture_in_every_format(arrivals, picture_format):
    report = report_on(answer(arrivals=arrivals), duration_seconds=max(*arrivals, 0.001))
    assert draw(report, picture_format)[:5] in (b"<?xml", b"\x89PNG\r", b"%PDF-")


def test_without_matplotlib_the_error_says_how_to_get_it(monkeypatch):
    ordinary_import = builtins.__import__

    def refuse(name, *others, **named):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return ordinary_import(name, *others, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"pip install 'yeoul\[plot\]'"):
        check_plotting()
