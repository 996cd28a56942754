"""run_server(): the life of the web process from start to exit code; knows no route. ``yeoul serve`` calls it.

The engine's process is started before FastAPI, uvicorn and the tokenizer are imported, so that all load side by side.
The first SIGTERM or SIGINT drains, a second one ends at once; a dead engine ends the server with an error.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import setproctitle

from yeoul.config.settings import Settings
from yeoul.log import set_up_logging
from yeoul.messages.outputs import EngineReady
from yeoul.web_process.async_llm import AsyncLLM, Progress
from yeoul.web_process.listening import bind_listener, url_of
from yeoul.web_process.request_observer import RequestObserver

if TYPE_CHECKING:
    from yeoul.web_process.http_server import HttpServer

logger = logging.getLogger(__name__)

OnReady = Callable[[EngineReady, str], None]
Result = TypeVar("Result")
EXIT_CODE_OF_A_SIGNAL = 128


def run_server(settings: Settings, on_ready: OnReady | None = None, on_progress: Progress | None = None) -> int:
    """Serves until a signal; returns the exit code: 0 after a drain, 128 and the signal's number after a second signal.

    Args:
        settings: all of them.
        on_ready: called once with what the engine found and the server's address.
        on_progress: called while a model is fetched, with what, the bytes done, and the bytes in all.

    Raises:
        ConfigError: a setting, the model or the port cannot work.
        ProcessDeadError: the engine or a worker could not start, or died.
    """
    set_up_logging("Web", settings.server.log_level)
    setproctitle.setproctitle("yeoul::Web")
    listener = bind_listener(settings.server.host, settings.server.port)
    with listener:
        observer = _LateObserver()
        llm = AsyncLLM(settings, observer=observer, on_progress=on_progress)
        llm.resolve()
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            return runner.run(ServerLife(llm, listener, on_ready).run())
