"""``yeoul bench``: measures any OpenAI-compatible server from the outside, ours and others in the same way.

Holds the flags and the progress bar; the load is in ``bench_load``, the arithmetic in ``bench_report``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yeoul.cli.grouped_help import GroupedHelpCommand
from yeoul.cli.server_address import server_root
from yeoul.config.build import environment_api_key
from yeoul.errors import ConfigError
from yeoul.progress import prompt_bar

if TYPE_CHECKING:
    from yeoul.cli.bench_load import LoadPlan
    from yeoul.cli.bench_report import LoadReport

bench = typer.Typer(help="Measure a server.", rich_markup_mode=None)


@bench.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Measure a server."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@bench.command("serve", cls=GroupedHelpCommand)
def bench_serve(
    url: Annotated[str, typer.Option(metavar="URL", help="The server, without /v1.")] = "http://127.0.0.1:8000",
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Default: the first that the server names.")] = None,
    num_prompts: Annotated[int, typer.Option(min=1, help="Requests in all.")] = 100,
    max_concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 8,
    input_len: Annotated[int, typer.Option(min=1, help="Tokens of each prompt.")] = 256,
    output_len: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 128,
    num_warmups: Annotated[int, typer.Option(min=0, help="Requests before the clock starts.")] = 1,
    ignore_eos: Annotated[bool, typer.Option(help="Ask for answers of the full length, whatever the model says.")] = True,
    seed: Annotated[int, typer.Option(help="Of the random prompts.")] = 0,
    api_key: Annotated[str | None, typer.Option(help="Default: YEOUL_API_KEY.", show_default=False)] = None,
    timeout_seconds: Annotated[float, typer.Option(min=1, help="Longest silence of one answer.")] = 600.0,
    json: Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write the report there; - is stdout.")] = None,
) -> None:
    """Keep a number of requests in flight (closed loop) and report times and throughput, as a client sees them."""
    import asyncio

    from yeoul.cli.bench_load import LoadPlan

    plan = LoadPlan(
        url=server_root(url),
        model=model or "",
        num_prompts=num_prompts,
        max_concurrency=max_concurrency,
        input_len=input_len,
        output_len=output_len,
        ignore_eos=ignore_eos,
        seed=seed,
        api_key=api_key or environment_api_key(),
        timeout_seconds=timeout_seconds,
    )
    report = asyncio.run(_measure(plan, num_warmups))
    _show(report, json)
    if report.num_failed:
        typer.echo(f"yeoul: {report.num_failed} requests failed; the first one with {report.first_error}", err=True)
        raise typer.Exit(1)


async def _measure(plan: LoadPlan, num_warmups: int) -> LoadReport:
    import msgspec

    from yeoul.cli.bench_load import find_model, make_prompts, open_client, run_load
    from yeoul.cli.bench_report import sum_up

    async with open_client(plan) as client:
        plan = msgspec.structs.replace(plan, model=plan.model or await find_model(client))
        prompts = await make_prompts(client, msgspec.structs.replace(plan, num_prompts=plan.num_prompts + num_warmups))
        warmups, prompts = prompts[:num_warmups], prompts[num_warmups:]
        await run_load(client, plan, warmups, lambda _: None)
        with prompt_bar("requests", len(prompts)) as count:
            results, duration_seconds = await run_load(client, plan, prompts, lambda times: count(times.output_tokens))
    return sum_up(plan, results, duration_seconds)


def _show(report: LoadReport, json_path: str | None) -> None:
    from rich.console import Console

    from yeoul.cli.bench_report import as_json, as_table, headline

    console = Console(stderr=json_path == "-")
    console.print(headline(report), style="bold", markup=False, highlight=False)
    console.print(as_table(report))
    if json_path == "-":
        sys.stdout.buffer.write(as_json(report))
        sys.stdout.flush()
    elif json_path is not None:
        try:
            Path(json_path).write_bytes(as_json(report))
        except OSError as error:
            raise ConfigError(f"cannot write the report to {json_path}: {error.strerror}") from error
