"""``yeoul run-batch``: answers the requests of a file into another, without a server; knows nothing of how."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Annotated

import typer

from yeoul.cli.serve import ConfigFile, merge_model
from yeoul.config.build import build_settings
from yeoul.config.machine import check_machine
from yeoul.progress import download_bars, prompt_bar


def run_batch(
    input_file: Annotated[
        str, typer.Option("--input-file", "-i", metavar="FILE", help="Requests as OpenAI's batches have them, one a line.")
    ],
    output_file: Annotated[
        str,
        typer.Option("--output-file", "-o", metavar="FILE", help="Gets the answers as they come; what is there is kept."),
    ],
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", show_default=False, help="As for yeoul serve; the same as --model.")
    ] = None,
    config: ConfigFile = None,
    *,
    flags: dict[str, object],
) -> None:
    """Answer the requests of a file into another one.

    Started again with the same files it goes on where it stopped.
    """
    from yeoul.web_process.batches.run_file import run_file

    check_machine()
    settings = build_settings(merge_model(flags, model), config)

    with download_bars() as on_progress:
        counts = run_file(settings, input_file, output_file, on_progress=on_progress, show_answers=_bar)
    before = f", {counts.num_answered_before} before" if counts.num_answered_before else ""
    failed = f"; {counts.num_failed} answers are errors" if counts.num_failed else ""
    typer.echo(f"{counts.num_lines} requests are answered in {output_file}{before}{failed}", err=True)


def _bar(num_lines: int) -> contextlib.AbstractContextManager[Callable[[int], None]]:
    return prompt_bar("requests", num_lines)
