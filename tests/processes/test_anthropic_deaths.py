"""/v1/messages while processes die: an answer goes on to the same end, or ends with an error in Anthropic's words."""

from __future__ import annotations

import os
import signal

import anthropic
import pytest

from tests.processes.forced_calls import CALL, NOW, serve
from tests.processes.test_anthropic import TOOLS, ask, client_of, in_short, streamed


def test_a_worker_that_is_killed_within_an_answer_changes_nothing():
    text = f"<think>{'hm ' * 60}</think>I look.\n{CALL}\n{NOW}"
    with serve("--reasoning-parser", "qwen3", "--fake-step-seconds", "0.01") as server:
        expected = streamed(server, text, tools=TOOLS)
        with client_of(server) as client, client.messages.stream(**ask(server, text, tools=TOOLS)) as stream:
            for number, _ in enumerate(stream):
                if number == 40:
                    os.kill(server.by_title()["yeoul::Worker_0"], signal.SIGKILL)
            found = stream.get_final_message()
        assert in_short(found) == in_short(expected)
        assert "yeoul::Worker_0" in server.by_title()


def test_an_engine_that_gives_up_ends_the_stream_with_an_error():
    with serve("--reasoning-parser", "none", "--max-restarts", "0", "--fake-step-seconds", "0.01") as server:
        with client_of(server) as client, client.messages.stream(**ask(server, "a " * 200)) as stream:
            next(iter(stream))
            os.kill(server.by_title()["yeoul::EngineCore"], signal.SIGKILL)
            with pytest.raises(anthropic.APIStatusError) as caught:
                stream.until_done()
        assert caught.value.type == "api_error"
