"""``yeoul bench`` against a server that answers, with real client processes."""

import json
import socket
from xml.etree import ElementTree

import pytest

from tests.unit.cli.streaming_server import StreamingServer
from yeoul.cli.main import run


def bench(server, *arguments):
    return run(["bench", "serve", "--url", server.url, "--num-prompts", "5", "--max-concurrency", "2", *arguments])


def test_a_report_counts_what_the_server_sent(capfd):
    with StreamingServer() as server:
        assert bench(server, "--json", "-", "--input-len", "20", "--output-len", "3") == 0
    out, err = capfd.readouterr()
    report = json.loads(out)
    assert report["settings"]["model"] == "first"
    assert report["num_completed"] == 5
    assert report["num_failed"] == 0
    assert report["total_output_tokens"] == 15
    assert report["total_prompt_tokens"] == 35
    assert report["time_to_first_token"]["p50"] > 0
    # Both are rounded, and the whole takes a few milliseconds.
    assert report["duration_seconds"] == pytest.approx(15 / report["output_tokens_per_second"], abs=1e-4)
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


def test_an_url_of_another_scheme_is_refused(capfd):
    assert run(["bench", "serve", "--url", "ftp://localhost:8000"]) == 2
    assert "expected one that begins with http:// or https://" in capfd.readouterr().err


def test_a_report_that_cannot_be_written_is_the_users_mistake(capfd, tmp_path):
    with StreamingServer() as server:
        assert bench(server, "--json", str(tmp_path / "no" / "report.json")) == 2
    assert "cannot write the report" in capfd.readouterr().err


def test_a_report_that_cannot_be_written_is_refused_before_the_load(tmp_path):
    with StreamingServer() as server:
        assert bench(server, "--plot", str(tmp_path / "no" / "plot.svg")) == 2
        assert bench(server, "--plot", str(tmp_path / "plot.gif")) == 2
    assert server.bodies == []


def test_several_clients_share_the_load(capfd):
    with StreamingServer() as server:
        server.pause_seconds = 0.01
        assert bench(server, "--num-clients", "2", "--num-warmups", "0", "--json", "-") == 0
    report = json.loads(capfd.readouterr().out)
    assert len(server.bodies) == 5
    assert server.most_at_once == 2
    assert [request["client"] for request in report["requests"]] == [0, 1, 0, 1, 0]
    assert len(report["client_busy_shares"]) == 2


def test_more_clients_than_requests_at_a_time_are_refused(capfd):
    with StreamingServer() as server:
        assert bench(server, "--num-clients", "3") == 2
    assert "expected at most the number of requests at a time (--max-concurrency), 2" in capfd.readouterr().err


def test_an_open_load_sends_when_due_whatever_is_answered(capfd):
    with StreamingServer() as server:
        server.pause_seconds = 0.1  # an answer takes 0.3 s, all are due within a few milliseconds
        arguments = ("--num-prompts", "6", "--request-rate", "1000", "--num-warmups", "0", "--json", "-")
        assert run(["bench", "serve", "--url", server.url, *arguments]) == 0
    report = json.loads(capfd.readouterr().out)
    assert server.most_at_once == 6
    assert report["most_in_flight"] == 6
    assert report["send_delay"]["min"] >= 0
    for request in report["requests"]:
        assert request["sent_seconds"] >= request["planned_seconds"]


def test_a_cap_on_an_open_load_shows_as_lateness(capfd):
    with StreamingServer() as server:
        server.pause_seconds = 0.05
        assert bench(server, "--max-concurrency", "1", "--request-rate", "1000", "--num-warmups", "0", "--json", "-") == 0
    out, err = capfd.readouterr()
    assert server.most_at_once == 1
    assert json.loads(out)["send_delay"]["max"] > 400
    assert "requests were sent late" in err


def test_latency_sends_one_request_at_a_time(capfd):
    with StreamingServer() as server:
        assert run(["bench", "latency", "--url", server.url, "--num-prompts", "4", "--json", "-"]) == 0
    out, err = capfd.readouterr()
    assert server.most_at_once == 1
    assert json.loads(out)["request_duration"]["count"] == 4
    assert "one at a time" in err


def test_throughput_sends_all_at_once_and_does_not_stream(capfd):
    with StreamingServer() as server:
        server.pause_seconds = 0.2
        assert run(["bench", "throughput", "--url", server.url, "--num-prompts", "6", "--json", "-"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert server.most_at_once == 6
    assert {body["stream"] for body in server.bodies} == {False}
    assert report["total_output_tokens"] == 18
    assert report["time_to_first_token"] is None
    assert report["request_duration"]["p50"] >= 200


def test_tokens_that_nobody_counted_fail_the_request(capfd):
    with StreamingServer(with_usage=False) as server:
        assert run(["bench", "throughput", "--url", server.url, "--num-prompts", "1"]) == 1
    assert "give --stream" in capfd.readouterr().err


def test_a_chat_is_asked_with_messages():
    with StreamingServer() as server:
        assert bench(server, "--chat", "--input-len", "20") == 0
    for body in server.bodies:
        (message,) = body["messages"]
        assert message["role"] == "user"
        assert message["content"]
        assert "prompt" not in body


def test_a_prefix_is_shared_by_all_prompts():
    with StreamingServer() as server:
        assert bench(server, "--prefix-len", "30", "--input-len", "20") == 0
    prompts = [body["prompt"] for body in server.bodies]
    assert {len(prompt) for prompt in prompts} == {50}
    assert len({tuple(prompt[:30]) for prompt in prompts}) == 1
    assert len({tuple(prompt[30:]) for prompt in prompts}) == len(prompts)


def test_prompts_of_a_file_are_all_sent(tmp_path):
    (tmp_path / "prompts.txt").write_text("one\n\ntwo\nthree\n")
    with StreamingServer() as server:
        arguments = ("--prompts", str(tmp_path / "prompts.txt"), "--num-warmups", "0")
        assert run(["bench", "latency", "--url", server.url, *arguments]) == 0
    assert [body["prompt"] for body in server.bodies] == ["one", "two", "three"]


def test_fields_of_ones_own_go_into_every_request(capfd):
    with StreamingServer() as server:
        assert bench(server, "--extra-body", '{"top_k": 3, "temperature": 0.5}') == 0
        assert {(body["top_k"], body["temperature"]) for body in server.bodies} == {(3, 0.5)}
        assert bench(server, "--extra-body", "[1]") == 2
    assert "expected a JSON object" in capfd.readouterr().err


def test_the_report_holds_settings_machine_and_every_percentile_but_no_key(tmp_path):
    path = tmp_path / "report.json"
    with StreamingServer(api_key="secret") as server:
        assert bench(server, "--api-key", "secret", "--json", str(path)) == 0
    report = json.loads(path.read_text())
    assert "secret" not in path.read_text()
    assert report["settings"]["max_concurrency"] == 2
    assert report["client_machine"]["num_cpus"] >= 1
    assert report["server"].endswith("1.2.3")
    times = report["request_duration"]
    assert times["every_percentile"] == sorted(times["every_percentile"])
    assert len(times["every_percentile"]) == 101
    assert times["every_percentile"][50] == times["p50"]


def test_the_rate_may_be_infinite_but_must_be_a_number(capfd):
    with StreamingServer() as server:
        assert bench(server, "--request-rate", "inf") == 0
        assert bench(server, "--request-rate", "nan") == 2
    assert "Invalid value for '--request-rate'" in capfd.readouterr().err


def test_a_plot_is_a_picture_with_its_units(tmp_path):
    with StreamingServer() as server:
        assert bench(server, "--plot", str(tmp_path / "plot.svg")) == 0
    root = ElementTree.fromstring((tmp_path / "plot.svg").read_bytes())
    told = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Time to first token", "Time between tokens", "% of requests", "tokens/s", "seconds from the start"} <= told
