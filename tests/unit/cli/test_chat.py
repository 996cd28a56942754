"""``yeoul chat`` against a server that answers."""

import contextlib
import io
import json

import pytest

from tests.unit.cli.streaming_server import StreamingServer
from yeoul.cli.chat_client import AnswerPiece, ChatClient, ChatOptions
from yeoul.cli.main import run
from yeoul.errors import InternalError, UserError


class Terminal(io.StringIO):
    """Standard input that says it is a terminal."""

    def isatty(self):
        return True


def chat(monkeypatch, text, *arguments, terminal=False):
    monkeypatch.setattr("sys.stdin", Terminal(text) if terminal else io.StringIO(text))
    return run(["chat", *arguments])


def test_lines_of_a_pipe_are_answered_one_by_one(monkeypatch, capsys):
    with StreamingServer() as server:
        assert chat(monkeypatch, "Hi\n\nAnd?\n", "--url", server.url + "/v1/") == 0
    assert capsys.readouterr().out == "Hello, world\nHello, world\n"
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "Hi"}]
    assert server.bodies[1]["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello, world"},
        {"role": "user", "content": "And?"},
    ]


def test_the_flags_reach_the_server(monkeypatch):
    with StreamingServer(api_key="secret") as server:
        arguments = ["--system", "Be brief.", "--temperature", "0", "--max-tokens", "5", "--api-key", "secret"]
        assert chat(monkeypatch, "Hi\n", "--url", server.url, "second", *arguments) == 0
    (body,) = server.bodies
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("second", 0.0, 5)


def test_without_flags_the_server_chooses(monkeypatch):
    with StreamingServer() as server:
        assert chat(monkeypatch, "Hi", "--url", server.url) == 0
    assert set(server.bodies[0]) == {"model", "messages", "stream", "stream_options"}


def test_clear_forgets_all_but_the_system_message(monkeypatch):
    with StreamingServer() as server:
        assert chat(monkeypatch, "Hi\n/clear\nAgain\n/exit\nNever\n", "--url", server.url, "--system", "S") == 0
    assert len(server.bodies) == 2
    assert [message["content"] for message in server.bodies[1]["messages"]] == ["S", "Again"]


def test_help_lists_the_commands_and_an_unknown_one_names_the_nearest(monkeypatch, capsys):
    with StreamingServer() as server:
        assert chat(monkeypatch, "/help\n/claer\n", "--url", server.url, terminal=True) == 0
    out, err = capsys.readouterr()
    assert all(command in out for command in ("/exit", "/clear", "/help"))
    assert "/claer is no command. Did you mean /clear?" in err


def test_on_a_terminal_the_pace_is_shown_and_an_error_ends_nothing(monkeypatch, capsys):
    with StreamingServer(fail="event") as server:
        assert chat(monkeypatch, "Hi\nHi\n", "--url", server.url, terminal=True) == 0
    assert capsys.readouterr().err.count("it broke in the middle") == 2
    assert [len(body["messages"]) for body in server.bodies] == [1, 1]
    with StreamingServer() as server:
        chat(monkeypatch, "Hi\n", "--url", server.url, terminal=True)
    assert "3 tokens · cut at the limit" in capsys.readouterr().out


def test_the_first_token_is_timed_from_the_question_on():
    with StreamingServer() as server:
        server.first_pause_seconds = 0.05
        client = ChatClient(ChatOptions(url=server.url))
        with contextlib.closing(client):
            client.connect()
            assert "".join(piece.text for piece in client.ask("Hi")) == "Hello, world"
        assert client.times.first_token_seconds >= 0.05
        assert client.times.total_seconds >= client.times.first_token_seconds


@pytest.mark.parametrize(("fail", "message"), [("status", "it broke"), ("cut", "ended the answer in the middle")])
def test_in_a_pipe_the_exit_code_tells_of_a_failure(monkeypatch, capsys, fail, message):
    with StreamingServer(fail=fail) as server:
        assert chat(monkeypatch, "Hi\n", "--url", server.url) == 1
    assert message in capsys.readouterr().err


def test_what_the_model_writes_does_not_steer_the_terminal(monkeypatch, capsys):
    with StreamingServer(words=("a\x1b[2J", "\x07b\r", "\nc\té")) as server:
        assert chat(monkeypatch, "Hi\n", "--url", server.url) == 0
    assert capsys.readouterr().out == "a[2Jb\nc\té\n"


def test_flags_of_a_server_do_nothing_with_an_url_and_are_refused(monkeypatch, capsys):
    assert chat(monkeypatch, "", "--url", "http://127.0.0.1:1", "--dtype", "float32") == 2
    assert "--dtype sets up a server of the chat's own" in capsys.readouterr().err


def test_no_server_is_the_users_mistake(monkeypatch, capsys):
    with StreamingServer() as server:
        url = server.url
    assert chat(monkeypatch, "Hi\n", "--url", url) == 2
    assert "check --url" in capsys.readouterr().err


def test_a_wrong_key_is_the_users_mistake():
    with StreamingServer(api_key="secret") as server, contextlib.closing(ChatClient(ChatOptions(url=server.url))) as client:
        client.connect()
        with pytest.raises(UserError, match="401: the key is wrong"):
            list(client.ask("Hi"))
        assert client.messages == []


def test_an_answer_that_is_broken_off_is_kept_and_the_server_notices():
    with StreamingServer(words=["word "] * 500) as server:
        server.pause_seconds = 0.001
        with contextlib.closing(ChatClient(ChatOptions(url=server.url))) as client:
            client.connect()
            with contextlib.closing(client.ask("Hi")) as pieces:
                assert next(pieces).text == "word "
            assert client.messages[1] == {"role": "assistant", "content": "word "}
    assert server.num_disconnects == 1


def test_ctrl_c_breaks_an_answer_off_and_the_chat_goes_on(monkeypatch, capsys):
    written: list[str] = []

    def interrupt(self, table):
        raise KeyboardInterrupt

    class Word(str):
        translate = interrupt

    def ask(self, text):
        written.append(text)
        yield AnswerPiece(Word("half an answer"))

    monkeypatch.setattr(ChatClient, "ask", ask)
    with StreamingServer() as server:
        assert chat(monkeypatch, "one\ntwo\n", "--url", server.url, terminal=True) == 0
    assert written == ["one", "two"]
    assert capsys.readouterr().out.count("[broken off]") == 2


def test_a_server_that_breaks_is_our_failure_and_the_question_is_forgotten():
    with StreamingServer(fail="status") as server, contextlib.closing(ChatClient(ChatOptions(url=server.url))) as client:
        client.connect()
        with pytest.raises(InternalError, match="it broke"):
            list(client.ask("Hi"))
        assert client.messages == []


def test_reasoning_is_shown_on_a_terminal_and_left_out_of_a_pipe_and_of_the_conversation(monkeypatch, capsys):
    for spelling in ("reasoning", "reasoning_content"):
        with StreamingServer(deltas=[{spelling: "Let me "}, {spelling: "see."}, {"content": "Yes."}]) as server:
            assert chat(monkeypatch, "Hi\nAgain\n", "--url", server.url) == 0
            assert capsys.readouterr().out == "Yes.\nYes.\n"
            assert server.bodies[1]["messages"][1] == {"role": "assistant", "content": "Yes."}
            assert chat(monkeypatch, "Hi\n", "--url", server.url, terminal=True) == 0
            assert "Let me see.\n\nYes.\n" in capsys.readouterr().out


def test_without_usage_no_tokens_are_claimed(monkeypatch, capsys):
    with StreamingServer(with_usage=False) as server:
        chat(monkeypatch, "Hi\n", "--url", server.url, terminal=True)
    out = capsys.readouterr().out
    assert "tokens" not in out
    assert "first after" in out


def test_an_answer_with_a_reason_for_its_end_and_without_done_is_whole(monkeypatch, capsys):
    with StreamingServer(fail="no done") as server:
        assert chat(monkeypatch, "Hi\n", "--url", server.url) == 0
    assert capsys.readouterr().out == "Hello, world\n"


def test_several_lines_are_one_message(monkeypatch):
    with StreamingServer() as server:
        assert chat(monkeypatch, 'one\n"""two\n  three\n\n/four"""\n"""five"""\n"""\nsix\n"""\n', "--url", server.url) == 0
    assert [body["messages"][-1]["content"] for body in server.bodies] == ["one", "two\n  three\n\n/four", "five", "six"]


def test_the_system_message_and_the_temperature_are_set_while_one_talks(monkeypatch, capsys):
    text = "/system Be brief.\n/temperature 0.5\nHi\n/temperature\n/system\nHi\n/temperature hot\n/bye\nHi\n"
    with StreamingServer() as server:
        chat(monkeypatch, text, "--url", server.url)
    first, second = server.bodies
    assert first["messages"][0] == {"role": "system", "content": "Be brief."}
    assert first["temperature"] == 0.5
    assert "temperature" not in second
    assert [message["role"] for message in second["messages"]] == ["user"]
    assert "/temperature is 'hot'; expected a number" in capsys.readouterr().err


def test_a_conversation_is_saved(monkeypatch, capsys, tmp_path):
    with StreamingServer() as server:
        text = f"Hi\n/save {tmp_path / 'chat.json'}\n/save\n/save {tmp_path}\n"
        assert chat(monkeypatch, text, "--url", server.url) == 1
    assert json.loads((tmp_path / "chat.json").read_text()) == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello, world"},
    ]
    err = capsys.readouterr().err
    assert "/save needs the name of a file" in err
    assert f"cannot write {tmp_path}: Is a directory" in err


def test_a_proxy_of_the_environment_is_for_servers_elsewhere(monkeypatch):
    with StreamingServer() as server:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        assert chat(monkeypatch, "Hi\n", "--url", server.url) == 0
        monkeypatch.setenv("HTTP_PROXY", server.url)  # whatever is asked for, this proxy answers itself
        assert chat(monkeypatch, "Hi\n", "--url", "models.example") == 2
    assert len(server.bodies) == 1
    assert server.foreign_paths == ["http://models.example/v1/models"]
