"""``yeoul chat``: a conversation on the terminal, with a server that runs or with one of its own. Knows nothing of HTTP."""

from __future__ import annotations

import contextlib
import importlib
import io
import signal
import sys
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
    from yeoul.cli.chat_client import ChatClient, ChatOptions
    from yeoul.cli.chat_server import OwnServer

COMMANDS = {
    "/exit": "end the chat (so does Ctrl-D)",
    "/clear": "forget the conversation so far",
    "/help": "show this",
}
_PROMPT = "> "

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
    if url is not None:
        options = ChatOptions(
            url=server_root(url), model=_served_name(flags, config), api_key=_key(flags), system=system,
            temperature=temperature, max_tokens=max_tokens,
        )  # fmt: skip
        raise typer.Exit(converse(options))
    check_machine()
    # A failure is reported by the chat; the server's own log would run into the conversation.
    settings = build_settings({"log_level": "error", **flags}, config)
    from yeoul.cli.chat_server import OwnServer

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    typer.echo("Starting the model ...", err=True)
    with OwnServer(settings) as server:
        options = ChatOptions(
            url=server.url, api_key=server.api_key, system=system, temperature=temperature, max_tokens=max_tokens
        )
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
    """The next line without its blanks; None at the end of the input or at ``/exit``."""
    while True:
        try:
            line = input(_PROMPT if is_terminal else "")
        except EOFError:
            return None
        except KeyboardInterrupt:
            typer.echo("\nCtrl-D or /exit ends the chat")
            continue
        text = line.strip().encode(errors="replace").decode()
        return None if text == "/exit" else text


def _obey(command: str, client: ChatClient) -> None:
    if command == "/clear":
        client.clear()
    elif command == "/help":
        for name, meaning in COMMANDS.items():
            typer.echo(f"  {name:8} {meaning}")
    else:
        raise ConfigError(f"{command.split()[0]} is no command.{nearest(command, COMMANDS)} /help lists them")


def _print_answer(client: ChatClient, text: str, is_terminal: bool) -> None:
    with contextlib.closing(client.ask(text)) as pieces:
        try:
            for piece in pieces:
                sys.stdout.write(piece.translate(_CONTROL_CHARACTERS))
                sys.stdout.flush()
        except KeyboardInterrupt:
            typer.echo(" [broken off]")
            return
    typer.echo()
    times = client.times
    if is_terminal:
        cut = ", cut at the limit" if times.finish_reason == "length" else ""
        typer.secho(
            f"{times.num_tokens} tokens{cut} · {times.tokens_per_second:.0f} tokens/s · "
            f"first after {times.first_token_seconds:.2f} s",
            dim=True,
        )


def _served_name(flags: dict[str, object], config: str | None) -> str | None:
    """The model to ask a running server for. Raises ConfigError for settings of a server that the chat does not start."""
    idle = [as_flag(name) for name in flags if name not in _CLIENT_FLAGS] + (["--config"] if config else [])
    if idle:
        raise ConfigError(f"{idle[0]} sets up a server of the chat's own and does nothing with --url; leave one of them out")
    return None if flags.get("model") is None else str(flags["model"])


def _key(flags: dict[str, object]) -> str | None:
    keys = msgspec.convert(flags.get("api_key", []), list[str])
    return keys[0] if keys else environment_api_key()
