"""Progress bars on standard error, for downloads and for lists of prompts; knows nothing of what progresses.

Called by ``LLM`` and the command line. Where standard error is neither a terminal nor a notebook nothing is shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

OnDownload = Callable[[str, int, int], None]
"""Called with what is fetched, the bytes that are here, and the bytes in all (0 where that is not known)."""


@contextlib.contextmanager
def download_bars() -> Iterator[OnDownload]:
    """A bar for each thing that is fetched; shows nothing before the first call, for a model that is here already."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    with contextlib.ExitStack() as shown:
        tasks: dict[str, tuple[Progress, TaskID]] = {}

        def show(name: str, num_done: int, num_total: int) -> None:
            total = num_total or None
            if name not in tasks:
                columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
                bars = (
                    next(iter(tasks.values()))[0]
                    if tasks
                    else shown.enter_context(_bars(TextColumn("{task.description}"), *columns))
                )
                tasks[name] = bars, bars.add_task(name, total=total)
            bars, task = tasks[name]
            bars.update(task, completed=num_done, total=total)
            # A server outlives its download by far: its bars are still when all is here, and move again for more.
            if bars.finished:
                bars.stop()
            elif not bars.live.is_started:
                bars.start()

        yield show


@contextlib.contextmanager
def prompt_bar(label: str, num_prompts: int, *, is_wanted: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar over prompts; what it gives is called once a finished prompt, with the tokens of its answers."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with _bars(TextColumn("{task.description}"), *columns, is_wanted=is_wanted) as bars:
        task = bars.add_task(label, total=num_prompts)
        num_tokens = 0

        def count(num_new_tokens: int) -> None:
            nonlocal num_tokens
            num_tokens += num_new_tokens
            rate = num_tokens / (bars.tasks[task].elapsed or 1e-9)
            bars.update(task, advance=1, description=f"{label}, {num_tokens} tokens, {rate:.0f} tokens/s")

        yield count


def _bars(*columns: object, is_wanted: bool = True) -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(
        *columns,  # type: ignore[arg-type]
        console=console,
        disable=not is_wanted or not (console.is_terminal or console.is_jupyter),
    )
