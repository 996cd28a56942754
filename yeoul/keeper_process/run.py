"""run_keeper(): a server of several web processes, from start to exit code; ``yeoul serve --api-server-count N`` calls it.

This process is the one that the user has started. It binds the sockets, starts the engines and the web processes, and is
what is between them; it reads no request and writes no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import setproctitle
import uvloop

from yeoul.config.models import ModelChoice
from yeoul.config.settings import Settings
from yeoul.descriptors import allow_descriptors
from yeoul.errors import ConfigError
from yeoul.garbage_collection import postpone_garbage_collection
from yeoul.keeper_process.keeper_life import KeeperLife, Progress
from yeoul.log import set_up_logging
from yeoul.messages.outputs import EngineReady
from yeoul.transport.private_folder import PrivateFolder
from yeoul.web_process.http.listening import bind_listeners, share_listeners, url_of
from yeoul.web_process.store.database import hold_folder

OnReady = Callable[[EngineReady, str, str | None, list[int]], None]
_NUM_DESCRIPTORS = 1024


def run_keeper(
    choice: ModelChoice,
    on_ready: OnReady | None = None,
    on_progress: Progress | None = None,
) -> int:
    """Serves until a signal; returns the exit code: 0 after a drain, 128 and the signal's number after a second signal.

    Args:
        choice: the one model.
        on_ready: called once with what the engines found, the server's address, that of its page, if it has one, and the
            pids of the web processes.
        on_progress: called while the model is fetched, with what, the bytes done, and the bytes in all.

    Raises:
        ConfigError: a setting, the model or the port cannot work.
        ProcessDeadError: an engine, a worker or a web process could not start, or died too often.
    """
    settings = choice.settings
    _check(settings)
    postpone_garbage_collection()
    set_up_logging("Keeper", settings.server.log_level, settings.server.log_format)
    setproctitle.setproctitle("yeoul::Keeper")
    allow_descriptors(_NUM_DESCRIPTORS, "--api-server-count")
    with contextlib.ExitStack() as opened:
        listeners = [opened.enter_context(one) for one in bind_listeners(settings.server.host, settings.server.port)]
        each = share_listeners(listeners, settings.server.api_server_count)
        for shared in each[1:]:
            for one in shared:
                opened.enter_context(one)
        if settings.store.data_dir is not None:
            opened.enter_context(hold_folder(settings.store.data_dir))
        folder = opened.enter_context(PrivateFolder.create())
        scheme = "http" if settings.server.ssl_certfile is None else "https"
        url = url_of(listeners, scheme)

        def tell(ready: EngineReady, page: str | None, pids: list[int]) -> None:
            if on_ready is not None:
                on_ready(ready, url, page, pids)

        async def live() -> int:
            life = KeeperLife(settings, choice.names, each, folder.path, tell, on_progress)
            return await life.run()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(live())


def _check(settings: Settings) -> None:
    if settings.fleet.model_ttl_seconds is not None:
        raise ConfigError(
            "--api-server-count keeps engines for all web processes, and none may end them: leave out --model-ttl-seconds",
            param="api_server_count",
        )
    if settings.transport.engine_address is not None:
        raise ConfigError(
            "--api-server-count starts web processes beside engines of their own server; leave it out with --engine-address",
            param="api_server_count",
        )
