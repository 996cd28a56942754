"""What a web process says to its siblings before its application is made, and after."""

from __future__ import annotations

import asyncio

from tests.unit.web_process.fake_engine_client import settings
from yeoul.config.parts import EnginePlace
from yeoul.messages.siblings import SiblingAnswer, SiblingQuestion
from yeoul.model_files.describe import describe
from yeoul.model_files.description import ModelFiles
from yeoul.web_process.keeper_side import KeeperSide
from yeoul.web_process.launch import WebArguments

FILES = ModelFiles(name="fake", file_format="fake", path="")
QUESTION = SiblingQuestion("GET", "/load")


def test_a_sibling_that_asks_while_this_one_is_being_started_is_answered_at_once():
    chosen, description = settings(), describe(FILES)
    side = KeeperSide(
        WebArguments(
            settings=chosen,
            names=["fake"],
            files=FILES,
            description=description,
            index=1,
            count=2,
            start=0,
            listener_fds=[],
            addresses=("ipc:///nowhere.in", "ipc:///nowhere.out"),
            folder="/nowhere",
        )
    )
    client = side.connect(chosen, FILES, description, 256, EnginePlace())

    def answer() -> SiblingAnswer:
        async def ask() -> SiblingAnswer:
            assert client.answer_sibling is not None
            return await client.answer_sibling(QUESTION)

        return asyncio.run(ask())

    async def tell_load(_: SiblingQuestion) -> SiblingAnswer:
        return SiblingAnswer(1, 200, b"3")

    assert answer() == SiblingAnswer(1, 503)
    side.serve(tell_load)
    assert answer() == SiblingAnswer(1, 200, b"3")
