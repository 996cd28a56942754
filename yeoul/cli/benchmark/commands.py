"""``yeoul bench``: measures any OpenAI-compatible server from the outside, ours and others in the same way.

Holds the flags and the progress bar; the load is in ``clients``, the arithmetic in ``report``.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yeoul.cli.grouped_help import GroupedHelpCommand
from yeoul.cli.server_address import server_root
from yeoul.config.build import environment_api_key
from yeoul.errors import ConfigError
from yeoul.progress import prompt_bar

if TYPE_CHECKING:
    from yeoul.cli.benchmark.plan import LoadPlan
    from yeoul.cli.benchmark.report import LoadReport


# What a command sends where no flag says otherwise.
_MODES: dict[str, dict[str, Any]] = {
    "serve": {"num_prompts": 100, "num_warmups": 1, "max_concurrency": 8, "streams": True},
    "latency": {"num_prompts": 30, "num_warmups": 3, "max_concurrency": 1, "streams": True},
    "throughput": {"num_prompts": 256, "num_warmups": 1, "max_concurrency": None, "streams": False},
}
_HELP = {
    "serve": "Load a server as its users do, and report times and throughput as they see them.",
    "latency": "Send one request at a time and report how long an otherwise idle server takes.",
    "throughput": "Send everything at once, without streaming, and report how fast the whole is done.",
}

_server = partial(typer.Option, rich_help_panel="Server")
_load = partial(typer.Option, rich_help_panel="Load")
_prompts = partial(typer.Option, rich_help_panel="Prompts and answers")
_report = partial(typer.Option, rich_help_panel="Report")

bench = typer.Typer(help="Measure a server.", rich_markup_mode=None)


@bench.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Measure a server."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def bench_load(
    context: typer.Context,
    url: Annotated[str, _server(metavar="URL", help="The server, without /v1.")] = "http://127.0.0.1:8000",
    model: Annotated[str, _server(metavar="NAME", help="Default: the first that the server names.")] = "",
    is_chat: Annotated[bool, _server("--chat", help="Ask /v1/chat/completions instead of /v1/completions.")] = False,
    extra_body: Annotated[str, _server(metavar="JSON", help="An object whose fields go into every request.")] = "{}",
    api_key: Annotated[str | None, _server(help="Default: YEOUL_API_KEY.")] = None,
    timeout_seconds: Annotated[float, _server(min=1, help="Longest silence of one answer.")] = 600.0,
    num_prompts: Annotated[
        int | None, _load(min=1, help="Requests in all. Default: 100 (latency 30, throughput 256), of a file all.")
    ] = None,
    max_concurrency: Annotated[
        int | None, _load(min=1, help="Requests at a time. Default: 8 (latency 1, throughput all), of an open load all.")
    ] = None,
    request_rate: Annotated[
        float | None, _load(min=1e-6, help="Requests a second, sent when due whatever was answered (open loop).")
    ] = None,
    burstiness: Annotated[
        float, _load(min=1e-3, help="Of --request-rate: 1 is Poisson, less comes in bursts, more evenly.")
    ] = 1.0,
    num_clients: Annotated[int, _load(min=1, help="Client processes that share the load.")] = 1,
    num_warmups: Annotated[int | None, _load(min=0, help="Requests before the clock starts. Default: 1 (latency 3).")] = None,
    input_len: Annotated[int, _prompts(min=1, help="Random tokens of each prompt.")] = 256,
    prefix_len: Annotated[int, _prompts(min=0, help="Tokens before them that all prompts share.")] = 0,
    output_len: Annotated[int, _prompts(min=1, help="Tokens of each answer.")] = 128,
    prompts_file: Annotated[
        str | None,
        _prompts("--prompts", metavar="FILE", help="Prompts instead of random ones, a line each: text or .jsonl."),
    ] = None,
    ignore_eos: Annotated[bool, _prompts(help="Ask for answers of the full length, whatever the model says.")] = True,
    temperature: Annotated[float, _prompts(min=0.0, help="0 is greedy.")] = 0.0,
    seed: Annotated[int, _prompts(help="Of the random prompts and arrivals.")] = 0,
    streams: Annotated[
        bool | None,
        _report("--stream/--no-stream", help="Stream, and so know each token's time; costs both sides something."),
    ] = None,
    json_path: Annotated[str | None, _report("--json", metavar="FILE", help="Write everything there; - is stdout.")] = None,
    plot_path: Annotated[
        str | None, _report("--plot", metavar="FILE", help="Draw the load, as .svg, .png or .pdf (yeoul[plot]).")
    ] = None,
) -> None:
    """The body of all three: a flag that is not given is left to the mode, and else to the plan."""
    given = {name: value for name, value in locals().items() if value is not None}
    if plot_path is not None:
        _check_plot(plot_path)
    _check_writable(json_path, plot_path)
    report = _measure(_plan(str(context.info_name), given))
    _show(report, json_path, plot_path)
    if report.num_failed:
        typer.echo(f"yeoul: {report.num_failed} requests failed; the first one with {report.first_error}", err=True)
        raise typer.Exit(1)


for _name, _help in _HELP.items():
    bench.command(_name, cls=GroupedHelpCommand, help=_help)(bench_load)


def _plan(mode: str, given: dict[str, Any]) -> LoadPlan:
    from yeoul.cli.benchmark.plan import LoadPlan

    fields = {"mode": mode, "api_key": environment_api_key(), **_MODES[mode]}
    if "request_rate" in given:
        fields["max_concurrency"] = None
    if "prompts_file" in given:
        fields["num_prompts"] = 0
    fields |= {field: given[field] for field in LoadPlan.__struct_fields__ if field in given}
    return LoadPlan(**fields | {"url": server_root(given["url"]), "extra_body": _read_json_fields(given["extra_body"])})


def _read_json_fields(text: str) -> dict[str, Any]:
    import msgspec

    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ConfigError(f"--extra-body is {text!r}; expected a JSON object such as '{{\"top_k\": 1}}': {error}") from error


def _measure(plan: LoadPlan) -> LoadReport:
    import datetime

    import msgspec

    from yeoul.cli.benchmark.clients import run_load
    from yeoul.cli.benchmark.machine import this_machine
    from yeoul.cli.benchmark.prompts import file_prompts, random_prompts, repeat
    from yeoul.cli.benchmark.report import sum_up
    from yeoul.cli.server import find_model, find_version, open_client

    given = file_prompts(plan.prompts_file, is_chat=plan.is_chat) if plan.prompts_file is not None else None
    with open_client(plan.url, plan.api_key, plan.timeout_seconds) as client:
        plan = msgspec.structs.replace(
            plan, model=plan.model or find_model(client), num_prompts=plan.num_prompts or len(given or ())
        )
        made = random_prompts(client, plan, plan.num_warmups + (plan.num_prompts if given is None else 0))
        warmups, prompts = made[: plan.num_warmups], made[plan.num_warmups :]
        server = find_version(client)
    if given is not None:
        prompts = repeat(given, plan.num_prompts)
    machine, started_at = this_machine(), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with prompt_bar("requests", len(prompts)) as count:
        result = run_load(plan, warmups, prompts, lambda times: count(times.output_tokens))
    return sum_up(plan, result, machine=machine, server=server, started_at=started_at)


def _show(report: LoadReport, json_path: str | None, plot_path: str | None) -> None:
    from rich.console import Console

    from yeoul.cli.benchmark.report_views import as_json, as_table, headline, remarks

    console = Console(stderr=json_path == "-")
    console.print(headline(report), style="bold", markup=False, highlight=False)
    table = as_table(report)
    if table.row_count:
        console.print(table)
    for remark in remarks(report):
        console.print(f"Note: {remark}.", markup=False, highlight=False)
    if json_path == "-":
        sys.stdout.buffer.write(as_json(report))
        sys.stdout.flush()
    elif json_path is not None:
        _write(json_path, as_json(report))
    if plot_path is not None:
        from yeoul.cli.benchmark.plot import draw

        _write(plot_path, draw(report, Path(plot_path).suffix[1:]))


def _check_plot(path: str) -> None:
    from yeoul.cli.benchmark.plot import FORMATS, check_plotting

    if Path(path).suffix[1:] not in FORMATS:
        raise ConfigError(f"--plot is {path!r}; expected a name that ends with {', '.join('.' + name for name in FORMATS)}")
    check_plotting()


def _check_writable(*paths: str | None) -> None:
    """Refuses at once what could not be written after a long load."""
    for path in paths:
        folder = Path(path).absolute().parent if path is not None and path != "-" else Path()
        if not folder.is_dir():
            raise ConfigError(f"cannot write the report to {path}: there is no folder {folder}")


def _write(path: str, content: bytes) -> None:
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise ConfigError(f"cannot write the report to {path}: {error.strerror}") from error
