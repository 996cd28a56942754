"""``yeoul bench``: measures any OpenAI-compatible server from the outside, ours and others in the same way.

Holds the flags of its three modes and the progress bar; the load is in ``clients``, the arithmetic in ``report``.
"""

from __future__ import annotations

import sys
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

_SERVER, _LOAD, _PROMPTS, _REPORT = "Server", "Load", "Prompts and answers", "Report"

Url = Annotated[str, typer.Option(metavar="URL", help="The server, without /v1.", rich_help_panel=_SERVER)]
Model = Annotated[
    str | None, typer.Option(metavar="NAME", help="Default: the first that the server names.", rich_help_panel=_SERVER)
]
ApiKey = Annotated[str | None, typer.Option(help="Default: YEOUL_API_KEY.", show_default=False, rich_help_panel=_SERVER)]
TimeoutSeconds = Annotated[float, typer.Option(min=1, help="Longest silence of one answer.", rich_help_panel=_SERVER)]
Chat = Annotated[
    bool, typer.Option("--chat", help="Ask /v1/chat/completions instead of /v1/completions.", rich_help_panel=_SERVER)
]
ExtraBody = Annotated[
    str | None, typer.Option(metavar="JSON", help="An object whose fields go into every request.", rich_help_panel=_SERVER)
]
NumPrompts = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Requests in all. Default: 100 (latency 30, throughput 256), of a file all.",
        rich_help_panel=_LOAD,
        show_default=False,
    ),
]
MaxConcurrency = Annotated[
    int | None, typer.Option(min=1, help="Requests at a time.", rich_help_panel=_LOAD, show_default=False)
]
RequestRate = Annotated[
    float | None,
    typer.Option(min=1e-6, help="Requests a second, sent when due whatever was answered (open loop).", rich_help_panel=_LOAD),
]
Burstiness = Annotated[
    float,
    typer.Option(min=1e-3, help="Of --request-rate: 1 is Poisson, less comes in bursts, more evenly.", rich_help_panel=_LOAD),
]
NumClients = Annotated[int, typer.Option(min=1, help="Client processes that share the load.", rich_help_panel=_LOAD)]
NumWarmups = Annotated[int, typer.Option(min=0, help="Requests before the clock starts.", rich_help_panel=_LOAD)]
InputLen = Annotated[int, typer.Option(min=1, help="Random tokens of each prompt.", rich_help_panel=_PROMPTS)]
PrefixLen = Annotated[int, typer.Option(min=0, help="Tokens before them that all prompts share.", rich_help_panel=_PROMPTS)]
OutputLen = Annotated[int, typer.Option(min=1, help="Tokens of each answer.", rich_help_panel=_PROMPTS)]
Prompts = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Prompts instead of random ones, a line each: text or .jsonl.", rich_help_panel=_PROMPTS
    ),
]
IgnoreEos = Annotated[
    bool, typer.Option(help="Ask for answers of the full length, whatever the model says.", rich_help_panel=_PROMPTS)
]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 is greedy.", rich_help_panel=_PROMPTS)]
Seed = Annotated[int, typer.Option(help="Of the random prompts and arrivals.", rich_help_panel=_PROMPTS)]
Stream = Annotated[
    bool, typer.Option(help="Stream, and so know each token's time; costs both sides something.", rich_help_panel=_REPORT)
]
Json = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write everything there; - is stdout.", rich_help_panel=_REPORT)
]
Plot = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Draw the load, as .svg, .png or .pdf (yeoul[plot]).", rich_help_panel=_REPORT),
]

_DEFAULT_URL = "http://127.0.0.1:8000"
_DEFAULT_CONCURRENCY = 8

bench = typer.Typer(help="Measure a server.", rich_markup_mode=None)


@bench.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Measure a server."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@bench.command("serve", cls=GroupedHelpCommand)
def bench_serve(
    url: Url = _DEFAULT_URL,
    model: Model = None,
    chat: Chat = False,
    extra_body: ExtraBody = None,
    api_key: ApiKey = None,
    timeout_seconds: TimeoutSeconds = 600.0,
    num_prompts: NumPrompts = None,
    max_concurrency: MaxConcurrency = None,
    request_rate: RequestRate = None,
    burstiness: Burstiness = 1.0,
    num_clients: NumClients = 1,
    num_warmups: NumWarmups = 1,
    input_len: InputLen = 256,
    prefix_len: PrefixLen = 0,
    output_len: OutputLen = 128,
    prompts: Prompts = None,
    ignore_eos: IgnoreEos = True,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
    json: Json = None,
    plot: Plot = None,
) -> None:
    """Load a server as its users do, and report times and throughput as they see them.

    Keeps --max-concurrency requests in flight (8 where neither is given), or sends --request-rate requests a second.
    """
    if request_rate is None and max_concurrency is None:
        max_concurrency = _DEFAULT_CONCURRENCY
    _run("serve", num_prompts or (None if prompts else 100), locals())


@bench.command("latency", cls=GroupedHelpCommand)
def bench_latency(
    url: Url = _DEFAULT_URL,
    model: Model = None,
    chat: Chat = False,
    extra_body: ExtraBody = None,
    api_key: ApiKey = None,
    timeout_seconds: TimeoutSeconds = 600.0,
    num_prompts: NumPrompts = None,
    num_warmups: NumWarmups = 3,
    input_len: InputLen = 256,
    prefix_len: PrefixLen = 0,
    output_len: OutputLen = 128,
    prompts: Prompts = None,
    ignore_eos: IgnoreEos = True,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
    json: Json = None,
    plot: Plot = None,
) -> None:
    """Send one request at a time and report how long an otherwise idle server takes."""
    _run("latency", num_prompts or (None if prompts else 30), locals() | {"max_concurrency": 1})


@bench.command("throughput", cls=GroupedHelpCommand)
def bench_throughput(
    url: Url = _DEFAULT_URL,
    model: Model = None,
    chat: Chat = False,
    extra_body: ExtraBody = None,
    api_key: ApiKey = None,
    timeout_seconds: TimeoutSeconds = 600.0,
    num_prompts: NumPrompts = None,
    max_concurrency: MaxConcurrency = None,
    num_clients: NumClients = 1,
    num_warmups: NumWarmups = 1,
    input_len: InputLen = 256,
    prefix_len: PrefixLen = 0,
    output_len: OutputLen = 128,
    prompts: Prompts = None,
    ignore_eos: IgnoreEos = True,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
    stream: Stream = False,
    json: Json = None,
    plot: Plot = None,
) -> None:
    """Send everything at once, unless --max-concurrency says less, and report how fast the whole is done."""
    _run("throughput", num_prompts or (None if prompts else 256), locals() | {"streams": stream})


def _run(mode: str, num_prompts: int | None, flags: dict[str, Any]) -> None:
    """The common body of all modes; ``flags`` are a command's, by name, or the plan's fields."""
    from yeoul.cli.benchmark.plan import LoadPlan

    json_path, plot_path = flags["json"], flags["plot"]
    if plot_path is not None:
        _check_plot(plot_path)
    _check_writable(json_path, plot_path)
    names = set(LoadPlan.__struct_fields__) & set(flags)
    fields = {name: flags[name] for name in names} | {
        "url": server_root(flags["url"]),
        "model": flags["model"] or "",
        "api_key": flags["api_key"] or environment_api_key(),
        "is_chat": flags["chat"],
        "prompts_file": flags["prompts"],
        "extra_body": _read_json_fields(flags["extra_body"]),
        "num_prompts": num_prompts or 0,
    }
    report = _measure(LoadPlan(mode=mode, **{"max_concurrency": None} | fields))
    _show(report, json_path, plot_path)
    if report.num_failed:
        typer.echo(f"yeoul: {report.num_failed} requests failed; the first one with {report.first_error}", err=True)
        raise typer.Exit(1)


def _read_json_fields(text: str | None) -> dict[str, Any]:
    import msgspec

    try:
        return msgspec.json.decode(text, type=dict[str, Any]) if text is not None else {}
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ConfigError(f"--extra-body is {text!r}; expected a JSON object such as '{{\"top_k\": 1}}': {error}") from error


def _measure(plan: LoadPlan) -> LoadReport:
    import datetime

    import msgspec

    from yeoul import __version__
    from yeoul.cli.benchmark.clients import run_load
    from yeoul.cli.benchmark.machine import this_machine
    from yeoul.cli.benchmark.prompts import file_prompts, random_prompts, repeat
    from yeoul.cli.benchmark.report import sum_up
    from yeoul.cli.benchmark.server import find_model, find_version, open_client

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
    return sum_up(
        plan,
        result.requests,
        result.duration_seconds,
        busy_shares=result.busy_shares,
        machine=machine,
        server=server,
        started_at=started_at,
        version=__version__,
    )


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
