"""docs/limits.md says what holds: each row's limit is answered, and one more is refused with the row's status and message."""

from __future__ import annotations

import re
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.processes.limit_cases import CASES, COMPLETIONS, NOT_BUILT, completion
from tests.raw_http import RawAnswer, connect, exchange, read_all, request_bytes
from tests.running_server import RunningServer
from yeoul.config.settings import Settings
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.engine.admission import Limits, check_sampling

PAGE = Path(__file__).parents[2] / "docs" / "limits.md"
MAX_MODEL_LEN = 8192
# One that writes little, so that many messages are few tokens.
TEMPLATE = "{{ messages | length }} messages"
# Rows whose limit is time or connections: the page has the default, and a server with a smaller one shows the rest.
BY_FLAG = {
    "open connections": Settings().server.max_num_connections,
    "bytes of a file": Settings().store.max_file_bytes,
    "seconds to send a request": Settings().time.request_timeout_seconds,
    "seconds that a client reads nothing of its answer": Settings().time.reader_timeout_seconds,
}


@dataclass(frozen=True)
class Row:
    """One line of the page."""

    what: str
    limit: int
    flag: str
    status: str
    message: str

    def message_for(self, sent: int) -> str:
        return self.message.format(sent=sent, limit=self.limit, max_model_len=MAX_MODEL_LEN)


def limit_in(cell: str) -> int:
    """``1024 entries``, or a sum with the length of the model's context."""
    number = int(found[0]) if (found := re.findall(r"\d+", cell)) else 0
    if "max_model_len" not in cell:
        return number
    return MAX_MODEL_LEN * number if "*" in cell else MAX_MODEL_LEN - number


def lines_of_tables(num_cells: int) -> list[list[str]]:
    lines = [line.strip("|").split("|") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines if len(line) == num_cells]
    return [line for line in cells if line[0] != "What" and not line[0].startswith("---")]


ROWS = [Row(what, limit_in(limit), flag.strip("`"), *rest) for what, limit, flag, *rest in lines_of_tables(5)]


@pytest.fixture(scope="module")
def server():
    with RunningServer("--max-model-len", str(MAX_MODEL_LEN), "--chat-template", TEMPLATE) as running:
        yield running


def test_every_row_of_the_page_has_its_case_and_every_case_its_row():
    assert {row.what for row in ROWS} == CASES.keys() | BY_FLAG.keys()
    assert len(ROWS) == len({row.what for row in ROWS})
    assert {what for what, *_ in lines_of_tables(3)} == NOT_BUILT.keys()


@pytest.mark.parametrize("row", [row for row in ROWS if row.what in CASES], ids=lambda row: row.what)
def test_the_limit_is_answered_and_one_more_is_refused(server, row):
    if row.what == "logit_bias":  # the model 'fake' has fewer tokens
        check_sampling(
            SamplingParams(logit_bias=dict.fromkeys(range(row.limit), 1.0)), Limits(max_model_len=9, vocab_size=9999)
        )
    else:
        answer = exchange(server.port, CASES[row.what](row.limit))
        assert answer.status == 200, answer.body[:300]
    refused = exchange(server.port, CASES[row.what](row.limit + 1))
    assert refused.status == int(row.status)
    assert refused.error["message"] == row.message_for(row.limit + 1)
    assert set(refused.error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("what", "status", "message"), lines_of_tables(3), ids=lambda cell: cell[:40])
def test_what_is_not_built_is_refused_and_not_ignored(server, what, status, message):
    refused = exchange(server.port, NOT_BUILT[what])
    assert refused.status == int(status)
    assert refused.error["message"] == message


@pytest.mark.parametrize("row", [row for row in ROWS if row.flag], ids=lambda row: row.what)
def test_a_row_names_a_flag_that_there_is(row):
    names = {f"--{name.replace('_', '-')}" for group in Settings().__struct_fields__ for name in _fields_of(group)}
    assert row.flag in names


@pytest.mark.parametrize("what", BY_FLAG)
def test_the_page_has_the_default_of_a_limit_that_a_flag_sets(what):
    (row,) = [row for row in ROWS if row.what == what]
    assert row.limit == BY_FLAG[what]


def test_an_id_in_a_header_is_not_read_so_that_two_requests_may_bring_the_same(server):
    headers = {"x-request-id": "the same", "content-type": "application/json"}
    payload = request_bytes("POST", COMPLETIONS, headers, b'{"prompt": "hi", "max_tokens": 1}')
    first, second = connect(server.port), connect(server.port)
    for connection in (first, second):
        connection.sendall(payload)
    answers = [read_all(connection) for connection in (first, second)]
    assert [answer.status for answer in answers] == [200, 200]
    assert b"the same" not in answers[0].body
    first.close()
    second.close()


def test_the_process_may_open_what_the_connections_need(server):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    (line,) = [line for line in Path(f"/proc/{server.pid}/limits").read_text().splitlines() if "open files" in line]
    assert int(line.split()[3]) >= min(hard, Settings().server.max_num_connections)


def test_a_connection_too_many_is_told_so_and_the_next_one_is_served():
    with RunningServer("--max-num-connections", "2") as running:
        message = _message_of("open connections", 2)
        with connect(running.port), connect(running.port):
            surplus = _until_refused(running)
            assert surplus.status == 503
            assert surplus.error["message"] == message
        httpx.get(f"{running.url}/health", timeout=10.0)


def test_who_does_not_finish_a_request_or_does_not_read_is_left():
    end = b"data: [DONE]\n\n\r\n0\r\n\r\n"
    with RunningServer("--request-timeout-seconds", "1", "--reader-timeout-seconds", "1") as running:
        with connect(running.port) as connection:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
            assert read_all(connection).status is None
        with connect(running.port, receive_buffer_bytes=4096) as connection:
            connection.sendall(completion(n=64, max_tokens=8000, logprobs=1, stream=True, ignore_eos=True))
            _wait_for(running, 'finished_reason="abort"} 64.0')
            assert not read_all(connection).body.endswith(end)
        with connect(running.port) as connection:
            connection.sendall(completion(n=64, max_tokens=150, logprobs=20, stream=True, ignore_eos=True))
            assert read_all(connection).body.endswith(end)
        _wait_for(running, "yeoul:num_requests_running 0.0")


def _fields_of(group: str) -> tuple[str, ...]:
    fields: tuple[str, ...] = getattr(Settings(), group).__struct_fields__
    return fields


def _message_of(what: str, limit: int) -> str:
    (row,) = [row for row in ROWS if row.what == what]
    return row.message.format(limit=limit)


def _wait_for(running: RunningServer, metric: str) -> None:
    deadline = time.monotonic() + 60.0
    while metric not in httpx.get(f"{running.url}/metrics", timeout=10.0).text:
        assert time.monotonic() < deadline, f"{metric} never came"
        time.sleep(0.05)


def _until_refused(running: RunningServer) -> RawAnswer:
    """The two connections before this one may not have been accepted yet."""
    for _ in range(100):
        answer = exchange(running.port, request_bytes("GET", "/health", {}))
        if answer.status == 503:
            return answer
        time.sleep(0.05)
    raise AssertionError("no connection was refused")
