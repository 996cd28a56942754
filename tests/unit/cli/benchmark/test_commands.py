"""``yeoul bench serve`` against a server that answers."""

import json
import socket

import pytest

from tests.unit.cli.streaming_server import StreamingServer
from yeoul.cli.bench_load import LoadPlan, RequestTimes
from yeoul.cli.bench_report import as_json, as_table, percentile, percentiles, sum_up
from yeoul.cli.main import run

PLAN = LoadPlan(url="http://x", model="m", num_prompts=2, max_concurrency=1, input_len=3, output_len=4)


def bench(server, *arguments):
    return run(["bench", "serve", "--url", server.url, "--num-prompts", "5", "--max-concurrency", "2", *arguments])


def test_a_report_counts_what_the_server_sent(capfd):
    with StreamingServer() as server:
        assert bench(server, "--json", "-", "--input-len", "20", "--output-len", "3") == 0
    out, err = capfd.readouterr()
    report = json.loads(out)
    assert report["model"] == "first"
    assert report["num_completed"] == 5
    assert report["num_failed"] == 0
    assert report["total_output_tokens"] == 15
    assert report["total_prompt_tokens"] == 35
    assert report["time_to_first_token"]["p50"] > 0
    assert report["output_tokens_per_second"] == pytest.approx(15 / report["duration_seconds"], rel=0.01)
    assert "time to first token" in err


def test_the_load_is_what_was_asked_for():
    with StreamingServer() as server:
        server.pause_seconds = 0.01
        assert bench(server, "--num-warmups", "0", "--input-len", "20", "--output-len", "3", "--model", "second") == 0
    assert len(server.bodies) == 5
    assert server.most_at_once == 2
    for body in server.bodies:
        assert body["model"] == "second"
        assert len(body["prompt"]) == 20
        assert set(body["prompt"]) <= {10, 11, 12}
        assert body["max_tokens"] == 3
        assert body["ignore_eos"] is True
        assert body["stream"] is True


def test_a_server_without_a_tokenizer_gets_words():
    with StreamingServer(can_tokenize=False) as server:
        assert bench(server, "--input-len", "6") == 0
    prompts = [body["prompt"] for body in server.bodies]
    assert {len(prompt.split()) for prompt in prompts} == {6}
    assert len(set(prompts)) == len(prompts)


def test_the_same_seed_makes_the_same_prompts():
    def prompts(seed):
        with StreamingServer() as server:
            bench(server, "--seed", seed, "--max-concurrency", "1")
        return [body["prompt"] for body in server.bodies]

    assert prompts("1") == prompts("1") != prompts("2")


def test_a_server_that_counts_no_tokens_has_its_events_counted(tmp_path):
    with StreamingServer(with_usage=False) as server:
        assert bench(server, "--no-ignore-eos", "--json", str(tmp_path / "report.json")) == 0
    assert json.loads((tmp_path / "report.json").read_text())["total_output_tokens"] == 15
    assert "ignore_eos" not in server.bodies[0]


@pytest.mark.parametrize(
    ("fail", "num_failed", "expected"),
    [("status", 5, "500"), ("event", 5, "it broke in the middle"), ("cut", 1, "the stream ended in the middle")],
)
def test_requests_that_fail_are_counted_and_the_exit_code_tells(capfd, fail, num_failed, expected):
    with StreamingServer(fail=fail) as server:
        assert bench(server, "--json", "-", "--num-warmups", "0") == 1
    out, err = capfd.readouterr()
    assert json.loads(out)["num_failed"] == num_failed
    assert expected in json.loads(out)["first_error"]
    assert f"{num_failed} requests failed" in err


def test_the_key_is_sent(monkeypatch):
    with StreamingServer(api_key="secret") as server:
        assert bench(server) == 1
        assert bench(server, "--api-key", "secret") == 0
        monkeypatch.setenv("YEOUL_API_KEY", "secret,other")
        assert bench(server) == 0


def test_no_server_is_the_users_mistake(capfd):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert run(["bench", "serve", "--url", f"http://127.0.0.1:{unused.getsockname()[1]}"]) == 2
    assert "check --url" in capfd.readouterr().err


def test_an_url_without_a_scheme_is_refused(capfd):
    assert run(["bench", "serve", "--url", "localhost:8000"]) == 2
    assert "expected one that begins with http:// or https://" in capfd.readouterr().err


def test_a_report_that_cannot_be_written_is_the_users_mistake(capfd, tmp_path):
    with StreamingServer() as server:
        assert bench(server, "--json", str(tmp_path / "no" / "report.json")) == 2
    assert "cannot write the report" in capfd.readouterr().err


def test_a_percentile_lies_between_its_neighbours():
    assert percentile([1.0], 0.99) == 1.0
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert percentile([0.0, 10.0], 0.9) == pytest.approx(9.0)
    assert percentile(list(map(float, range(101))), 0.99) == pytest.approx(99.0)


def test_times_become_milliseconds():
    shown = percentiles([0.003, 0.001, 0.002])
    assert shown is not None
    assert (shown.mean, shown.p50, shown.max) == (2.0, 2.0, 3.0)
    assert percentiles([]) is None


def test_a_request_that_failed_adds_no_times():
    good = RequestTimes(prompt_tokens=3, output_tokens=3, first_token_seconds=1.0, gaps_seconds=[0.5, 0.7], total_seconds=2.2)
    report = sum_up(PLAN, [good, RequestTimes(error="no", total_seconds=9.0)], 4.0)
    assert (report.num_completed, report.num_failed, report.first_error) == (1, 1, "no")
    assert report.request_duration is not None
    assert report.request_duration.max == 2200.0
    assert report.time_per_output_token is not None
    assert report.time_per_output_token.mean == 600.0
    assert report.output_tokens_per_second == 0.75


def test_a_load_where_all_fails_is_still_a_report():
    report = sum_up(PLAN, [RequestTimes(error="no")], 1.0)
    assert report.time_to_first_token is None
    assert json.loads(as_json(report))["inter_token"] is None
    assert as_table(report).row_count == 0
