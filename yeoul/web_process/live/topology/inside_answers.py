"""What the routes that look into a process answer, as JSON; knows no route."""

from __future__ import annotations

from typing import Annotated

import msgspec

from yeoul.web_process.http.openapi import Count, says


class StackFrame(msgspec.Struct, kw_only=True):
    """A call that a thread is in."""

    file: Annotated[str, says("The file of the code.")]
    line: Annotated[Count, says("The line that it is at.")]
    function: Annotated[str, says("The function, with its class.")]
    code: Annotated[str, says("What the line says; empty where the file is not at hand.")]


class StackOfThread(msgspec.Struct, kw_only=True):
    """Where a thread is."""

    name: Annotated[str, says("Of the thread, as everywhere.")]
    tid: Annotated[Count, says("The kernel's number of it.")]
    frames: Annotated[list[StackFrame], says("The calls that it is in, the innermost first.")]


class StackOfTask(msgspec.Struct, kw_only=True):
    """Where a task of asyncio waits."""

    name: Annotated[str, says("Of the task.")]
    frames: Annotated[list[StackFrame], says("The calls that it is in, the innermost first.")]


class ProcessStack(msgspec.Struct, kw_only=True):
    """Where a process is at this moment."""

    process: Annotated[str, says("Its name.")]
    pid: Annotated[Count, says("Its number.")]
    threads: Annotated[list[StackOfThread], says("The threads that Python knows; those of libraries have no Python in them.")]
    tasks: Annotated[list[StackOfTask], says("The first hundred tasks of the web process's loop; others have none.")]


class Killed(msgspec.Struct, kw_only=True):
    """That a process was sent SIGKILL; it is replaced as after any other death."""

    process: Annotated[str, says("Its name.")]
    pid: Annotated[Count, says("Its number, which its successor does not have.")]


class LoggedLine(msgspec.Struct, kw_only=True):
    """A record of the log."""

    at: Annotated[float, says("When it was written, in seconds since 1970.")]
    process: Annotated[str, says("Who wrote it.")]
    level: Annotated[str, says("`DEBUG`, `INFO`, `WARNING` or `ERROR`.")]
    text: Annotated[str, says("As on standard error; a traceback follows on lines of its own.")]


class Silent(msgspec.Struct, kw_only=True):
    """A process whose lines are not here."""

    process: Annotated[str, says("Its name.")]
    reason: Annotated[str, says("Why it did not give them.")]


class Log(msgspec.Struct, kw_only=True):
    """The last lines of the log of all processes, or of the one that was asked for."""

    data: Annotated[list[LoggedLine], says("The lines, the oldest first.")]
    missing: Annotated[list[Silent], says("Processes that did not answer, such as one that is being replaced.")]
