"""``yeoul replay``: runs the requests of a recovery report again; knows nothing of engines."""

from __future__ import annotations

from typing import Annotated

import typer


def replay(
    report: Annotated[str, typer.Argument(metavar="REPORT", help="A recovery report, as the server's log names it.")],
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The model, where it lies elsewhere now.", show_default=False)
    ] = None,
) -> int:
    """Run what was computed when a process died again, all at once: exit code 1 and the cause if it dies again, else 0."""
    import asyncio

    from yeoul.engine_process.replay import replay as run_again
    from yeoul.engine_process.replay import with_model
    from yeoul.recovery.recovery_report import read_report

    read = read_report(report)
    typer.echo(f"{read.time}: {read.role} {read.cause}; {len(read.requests)} requests were being computed")
    if not read.has_contents:
        typer.echo("it holds no contents: zeros of the same number are computed (--recovery-report-contents keeps them)")
    if model is not None:
        read = with_model(read, model)
    death = asyncio.run(run_again(read, lambda request_id, reason: typer.echo(f"  {request_id}: {reason}")))
    if death is not None:
        raise death
    typer.echo("nothing died this time")
    return 0
