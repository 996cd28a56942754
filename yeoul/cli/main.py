"""The command ``yeoul``: which commands there are, and how an error looks; knows nothing of what a command does.

Start time matters: this file and what it imports load nothing heavier than typer, and a command imports its own at its run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from yeoul import __version__
from yeoul.cli.benchmark.commands import bench
from yeoul.cli.cache import cache, list_models, remove_models
from yeoul.cli.chat import chat
from yeoul.cli.doctor.command import doctor
from yeoul.cli.foreign_flags import FOREIGN_COMMANDS, foreign_in
from yeoul.cli.grouped_help import GroupedHelpCommand
from yeoul.cli.pull import pull
from yeoul.cli.replay import replay
from yeoul.cli.run_batch import run_batch
from yeoul.cli.serve import serve
from yeoul.cli.setting_flags import with_setting_flags
from yeoul.cli.top.command import top
from yeoul.cli.topology import topology
from yeoul.cli.trace import trace
from yeoul.config.fields import nearest
from yeoul.config.user_folders import ensure_home
from yeoul.errors import MachineError, ProcessDeadError, UserError, YeoulError
from yeoul.log import log_format_of_this_process
from yeoul.model_files.hub_client import downloads_under_way
from yeoul.start_parts import START

logger = logging.getLogger(__name__)

EXIT_USER_ERROR = 2
EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130

_HINT = "(yeoul doctor looks at this machine)"

# Typer carries its own copy of click since 0.26 and leaned on the package before: this is the root of either's errors.
_USAGE_ERROR: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

app = typer.Typer(
    name="yeoul",
    help="Yeoul serves language models over the OpenAI API, from a CPU or a GPU.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={
        "help_option_names": ["-h", "--help"],
        # --max_model_len is --max-model-len.
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)
app.command(cls=GroupedHelpCommand)(with_setting_flags(serve))
app.command(cls=GroupedHelpCommand)(with_setting_flags(chat))
app.command("run", cls=GroupedHelpCommand, short_help="The same as chat.")(with_setting_flags(chat))
app.command(cls=GroupedHelpCommand, short_help="Fetch a model, and say where it is.")(pull)
app.command("run-batch", cls=GroupedHelpCommand)(with_setting_flags(run_batch))
app.command("list", cls=GroupedHelpCommand)(list_models)
app.command("rm", cls=GroupedHelpCommand)(remove_models)
app.command(cls=GroupedHelpCommand, short_help="Run what was computed when a process died again.")(replay)
app.command(cls=GroupedHelpCommand, short_help="Show what a running server is made of, and at.")(topology)
app.command(cls=GroupedHelpCommand, short_help="Show a running server on the terminal.")(top)
app.command(cls=GroupedHelpCommand, short_help="Look at this machine and a running server.")(with_setting_flags(doctor))
app.command(cls=GroupedHelpCommand, short_help="Record what all threads of a running server do.")(trace)
app.add_typer(bench, name="bench")
app.add_typer(cache, name="cache")


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", "-V", help="Show the version and exit.")] = False,
) -> None:
    """Print the version or, without a command, the help."""
    if version:
        typer.echo(f"yeoul {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Runs one command line; its exit code: 0, 1 for a failure of ours, 2 for the user's mistake, 130 for Ctrl-C."""
    ensure_home()
    try:
        result = app(args=list(arguments), prog_name="yeoul", standalone_mode=False)
    except MachineError as error:
        return _complain(f"{error.message} {_HINT}", EXIT_USER_ERROR)
    except UserError as error:
        return _complain(error.message, EXIT_USER_ERROR)
    except ProcessDeadError as error:
        return _complain(f"{error.message} {_HINT}", EXIT_FAILURE)
    except YeoulError as error:
        return _complain(error.message, EXIT_FAILURE)
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes standard output once more at its end
        return EXIT_FAILURE
    except _USAGE_ERROR as error:
        return _complain(_explain_usage(error, arguments), EXIT_USER_ERROR)
    return result if isinstance(result, int) else 0


def main() -> None:
    """The console script."""
    START.mark("imports")
    _open_standard_streams()
    exit_code = run(sys.argv[1:])
    if downloads_under_way():  # the hub's client has threads whose end the interpreter would wait for
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(exit_code)
    sys.exit(exit_code)


def _open_standard_streams() -> None:
    """Where a supervisor has closed one, the next socket would have its number, and be written to in its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def _complain(message: str, exit_code: int) -> int:
    if log_format_of_this_process() == "json":
        logger.error("%s", message)
        return exit_code
    typer.echo(f"yeoul: {message}", err=True)
    return exit_code


def _explain_usage(error: Any, arguments: Sequence[str]) -> str:
    """One line for what click could not parse, with the nearest known flag; a line for each flag of another server."""
    command, path = _find_command(arguments)
    known = [option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)]
    if foreign := foreign_in(arguments, known):
        width = max(map(len, foreign))
        lines = [f"  {flag:{width}}  {advice}" for flag, advice in foreign.items()]
        return "\n".join([f"some flags of this command line are those of other servers. See {path} --help-all", *lines])
    message = str(error.format_message()).rstrip(".?")
    name = getattr(error, "option_name", None)
    if name is not None and getattr(error, "possibilities", None) is not None:
        alike = [option for option in known if option.startswith("--no-") == name.startswith("--no-")]
        return f"{name} is no flag of {path}.{nearest(name, alike) or nearest(name, known)} See {path} --help"
    if "unexpected extra argument" in message and {"--served-model-name", "--served_model_name"} & set(arguments):
        message += "; a flag takes one value: repeat --served-model-name for each further name"
    if arguments and path == "yeoul" and arguments[0] in FOREIGN_COMMANDS:
        message += f": {FOREIGN_COMMANDS[arguments[0]]}"
    end = "?" if "Did you mean" in message else "."
    return f"{message}{end} See {path} --help"


def _find_command(arguments: Sequence[str]) -> tuple[Any, str]:
    """The command that ``arguments`` begin with, and how it is called; an error of click does not always know it."""
    command: Any = typer.main.get_command(app)
    path = "yeoul"
    for argument in arguments:
        if argument not in getattr(command, "commands", {}):
            break
        command, path = command.commands[argument], f"{path} {argument}"
    return command, path
