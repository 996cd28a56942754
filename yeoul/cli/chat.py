"""``yeoul chat``: a conversation on the terminal, with a server that runs or with one of its own. Knows nothing of HTTP."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from yeoul.cli.serve import ConfigFile, merge_model
from yeoul.cli.server_address import server_root
from yeoul.config.build import build_settings, environment_api_key
from yeoul.config.fields import as_flag, nearest
from yeoul.config.machine import check_machine
from yeoul.errors import ConfigError, YeoulError

if TYPE_CHECKING:
    from yeoul.cli.chat_client import AnswerTimes, ChatClient, ChatOptions
    from yeoul.cli.chat_server import OwnServer

COMMANDS = {
    "/exit": "end the chat (so do /bye and Ctrl-D)",
    "/clear": "forget the conversation so far",
    "/system TEXT": "set the system message, and forget the conversation so far; without TEXT there is none",
    "/temperature NUMBER": "0 always takes the likeliest token; without NUMBER the server chooses",
    "/save FILE": "write the conversation down as JSON, a list of messages",
    "/help": "show this",
}
_ENDS = ("/exit", "/bye")
_PROMPT, _PROMPT_OF_MORE = "> ", ". "
_SEVERAL_LINES = '"""'

# The flags of settings that make sense with a server that somebody else has started.
_CLIENT_FLAGS = {"model", "api_key"}

# What a model writes must not steer the terminal.
_CONTROL_CHARACTERS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def chat(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            show_default=False,
            help="What to serve, as for serve; with --url, the name of one of that server's models.",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", show_default=False, help="A running server. Without it the chat starts one and ends it."),
    ] = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="A system message.", show_default=False)] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="0 always takes the likeliest token.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(metavar="INTEGER", help="Longest answer, in tokens.", show_default=False, min=1)
    ] = None,
    config: ConfigFile = None,
    *,
    flags: dict[str, object],
) -> None:
    """Talk to a model on the terminal. The flags in groups set up the chat's own server."""
    from yeoul.cli.chat_client import ChatOptions

    flags = merge_model(flags, model)
    options = ChatOptions(system=system, temperature=temperature, max_tokens=max_tokens)
    if url is not None:
        options.url, options.model, options.api_key = server_root(url), _served_name(flags, config), _key(flags)
        raise typer.Exit(converse(options))
    check_machine()
    # A failure is reported by the chat; the server's own log would run into the conversation.
    settings = build_settings({"log_level": "error", **flags}, config)
    from yeoul.cli.chat_server import own_server

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    typer.echo("Starting the model ...", err=True)
    start = time.monotonic()
    with own_server(settings) as server:
        typer.echo(f"ready after {time.monotonic() - start:.1f} s", err=True)
        options.url, options.api_key = server.url, server.api_key
        raise typer.Exit(converse(options, server))


def converse(options: ChatOptions, server: OwnServer | None = None) -> int:
    """Reads messages from standard input and prints the answers until the input ends; the exit code.

    On a terminal an error is shown and the chat goes on; where the input is a file or a pipe the exit code tells of it.

    Raises:
        ConfigError: no server answers there.
        ProcessDeadError: the chat's own server has ended.
    """
    from yeoul.cli.chat_client import ChatClient

    is_terminal = sys.stdin.isatty()
    num_errors = 0
    with contextlib.closing(ChatClient(options)) as client:
        name = client.connect()
        if is_terminal:
            importlib.import_module("readline")  # input() then has a history and can be edited
            typer.echo(f"{name} at {options.url} · /help lists the commands, Ctrl-C breaks an answer off")
            typer.echo(f"{_SEVERAL_LINES} begins and ends a message of several lines")
        elif isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")
        while (text := _read_message(is_terminal)) is not None:
            try:
                if text.startswith("/"):
                    _obey(text, client)
                elif text:
                    _print_answer(client, text, is_terminal)
            except YeoulError as error:
                if server is not None:
                    server.check()
                typer.echo(f"yeoul: {error.message}", err=True)
                num_errors += 1
    return 0 if is_terminal or not num_errors else 1


def _read_message(is_terminal: bool) -> str | None:
    """The next line without its blanks, or the lines between two triple quotes; None at the input's end or at ``/exit``."""
    lines: list[str] = []
    while True:
        try:
            line = input((_PROMPT_OF_MORE if lines else _PROMPT) if is_terminal else "")
        except EOFError:
            return "\n".join(lines) if lines else None
        except KeyboardInterrupt:
            lines.clear()
            typer.echo("\nCtrl-D or /exit ends the chat")
            continue
        text = line.encode(errors="replace").decode()
        if not lines and not text.lstrip().startswith(_SEVERAL_LINES):
            text = text.strip()
            return None if text in _ENDS else text
        lines.append(text)
        whole = "\n".join(lines).strip()
        if len(whole) >= 2 * len(_SEVERAL_LINES) and whole.endswith(_SEVERAL_LINES):
            return whole.removeprefix(_SEVERAL_LINES).removesuffix(_SEVERAL_LINES).strip("\n")


def _obey(command: str, client: ChatClient) -> None:
    name, _, value = command.partition(" ")
    value = value.strip()
    if name == "/clear":
        client.clear()
    elif name == "/system":
        client.options.system = value or None
        client.clear()
    elif name == "/temperature":
        client.options.temperature = _read_temperature(value) if value else None
    elif name == "/save":
        _save(value, client.messages)
    elif name == "/help":
        width = max(map(len, COMMANDS))
        for known, meaning in COMMANDS.items():
            typer.echo(f"  {known:{width}}  {meaning}")
    else:
        names = [known.partition(" ")[0] for known in COMMANDS]
        raise ConfigError(f"{name} is no command.{nearest(name, names)} /help lists them")


def _read_temperature(value: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(temperature := float(value)):
            return temperature  # its range is the server's to know
    raise ConfigError(f"/temperature is {value!r}; expected a number such as 0.7")


def _save(path: str, messages: list[dict[str, str]]) -> None:
    if not path:
        raise ConfigError("/save needs the name of a file, such as /save chat.json")
    try:
        Path(path).expanduser().write_bytes(msgspec.json.format(msgspec.json.encode(messages)) + b"\n")
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
    typer.echo(f"{len(messages)} messages are in {path}")


def _print_answer(client: ChatClient, text: str, is_terminal: bool) -> None:
    """Shows the answer as it comes; the reasoning before it on a terminal only, since a pipe is for the answer."""
    was_reasoning = False
    with contextlib.closing(client.ask(text)) as pieces:
        try:
            for piece in pieces:
                if was_reasoning and not piece.is_reasoning:
                    typer.echo("\n")
                was_reasoning = piece.is_reasoning and is_terminal
                shown = piece.text.translate(_CONTROL_CHARACTERS)
                if is_terminal or not piece.is_reasoning:
                    typer.secho(shown, nl=False, dim=piece.is_reasoning or None)
                    sys.stdout.flush()
        except KeyboardInterrupt:
            typer.echo(" [broken off]")
            return
    typer.echo()
    if is_terminal:
        typer.secho(_summary(client.times), dim=True)


def _summary(times: AnswerTimes) -> str:
    parts = [] if times.num_tokens is None else [f"{times.num_tokens} tokens"]
    if times.finish_reason == "length":
        parts.append("cut at the limit")
    if (pace := times.tokens_per_second) is not None:
        parts.append(f"{pace:.0f} tokens/s")
    return " · ".join([*parts, f"first after {times.first_token_seconds:.2f} s"])


def _served_name(flags: dict[str, object], config: str | None) -> str | None:
    """The model to ask a running server for. Raises ConfigError for settings of a server that the chat does not start."""
    idle = [as_flag(name) for name in flags if name not in _CLIENT_FLAGS] + (["--config"] if config else [])
    if idle:
        raise ConfigError(f"{idle[0]} sets up a server of the chat's own and does nothing with --url; leave one of them out")
    return None if flags.get("model") is None else str(flags["model"])


def _key(flags: dict[str, object]) -> str | None:
    keys = msgspec.convert(flags.get("api_key", []), list[str])
    return keys[0] if keys else environment_api_key()
