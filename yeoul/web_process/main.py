"""The body of a web process that has a keeper, one of several; ``web_process.launch`` starts it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

import msgspec
import uvloop

from yeoul.descriptors import allow_descriptors
from yeoul.garbage_collection import postpone_garbage_collection
from yeoul.log import set_up_logging
from yeoul.messages.keeper import WebOrder
from yeoul.messages.outputs import EngineReady
from yeoul.messages.reports import WebReady
from yeoul.self_report import Respondent
from yeoul.start_parts import START
from yeoul.transport.child_process import ChildSide, enter_child
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.fleet.fleet_model import FleetModel
from yeoul.web_process.fleet.model_fleet import ModelFleet
from yeoul.web_process.http.tls import ServerTls
from yeoul.web_process.keeper_side import KeeperSide
from yeoul.web_process.launch import WebArguments
from yeoul.web_process.server import NUM_OTHER_DESCRIPTORS, SWITCH_INTERVAL_SECONDS, ServerLife
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.tables import TABLES

_orders = msgspec.msgpack.Decoder(WebOrder)


def main() -> int:
    """Serves until the keeper says otherwise; the exit code."""
    postpone_garbage_collection()
    side = enter_child()
    arguments = msgspec.msgpack.decode(side.arguments, type=WebArguments)
    settings = arguments.settings
    set_up_logging(side.role, settings.server.log_level, settings.server.log_format)
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    START.mark("imports")
    tls = ServerTls(settings.server) if settings.server.ssl_certfile is not None else None
    allow_descriptors(settings.server.max_num_connections + NUM_OTHER_DESCRIPTORS, "--max-num-connections")
    keeper = KeeperSide(arguments)
    with contextlib.ExitStack() as opened:
        listeners = [opened.enter_context(socket.socket(fileno=number)) for number in arguments.listener_fds]
        fleet = _make_fleet(arguments, keeper)
        database = opened.enter_context(Database(settings.store.data_dir, TABLES, keeper))
        START.mark("store")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(side, fleet, listeners, database, tls, keeper))


def _make_fleet(arguments: WebArguments, keeper: KeeperSide) -> ModelFleet:
    llm = AsyncLLM(arguments.settings, connect=keeper.connect, num_engines=1, mark=keeper.mark)
    keeper.room = llm.waiting_room
    llm.served.know(arguments.files, arguments.description)
    return ModelFleet(arguments.settings, [FleetModel(llm, arguments.names)])


async def _serve(
    side: ChildSide,
    fleet: ModelFleet,
    listeners: list[socket.socket],
    database: Database,
    tls: ServerTls | None,
    keeper: KeeperSide,
) -> int:
    def report(ready: EngineReady | None, url: str, page: str | None) -> None:
        side.report(msgspec.msgpack.encode(WebReady(page)))

    life = ServerLife(fleet, listeners, database, report, tls, keeper)
    loop, respondent = asyncio.get_running_loop(), Respondent(side.role)

    def answer(question: bytes) -> bytes:
        """In a thread of its own: an order, or a question about this process."""
        try:
            order = _orders.decode(question)
        except msgspec.ValidationError:
            return respondent(question)
        loop.call_soon_threadsafe(life.note_order, order.kind)
        return b"taken"

    side.answer_with(answer)
    return await life.run()
