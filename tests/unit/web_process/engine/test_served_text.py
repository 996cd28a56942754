"""What is known of a model's files is known of those files: others in their place are noticed."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest

from tests.unit.models.tiny_models import make_model, save_gguf
from tests.unit.web_process.fake_engine_client import LIMIT_SECONDS, until
from yeoul.config.settings import ModelSettings
from yeoul.errors import UnavailableError
from yeoul.web_process.engine import served_text
from yeoul.web_process.engine.model_text import ModelText, load_text
from yeoul.web_process.engine.served_text import ServedText


async def _nobody(method: str, arguments: list[str]) -> str:
    raise AssertionError(method)


def test_files_that_were_replaced_or_are_gone_are_others(tmp_path):
    path = str(tmp_path / "tiny.gguf")
    save_gguf(make_model("llama"), "llama", path, "BF16")
    served = ServedText(ModelSettings(model=path), None, _nobody)
    assert not served.has_changed()
    served.resolve()
    assert not served.has_changed()
    os.rename(path, tmp_path / "old.gguf")
    assert served.has_changed()
    save_gguf(make_model("llama", hidden_size=96), "llama", path, "BF16")
    assert served.has_changed()
    served.forget()
    assert not served.is_found
    served.resolve()
    assert not served.has_changed()
    assert served.model.description.hidden_size == 96


def test_the_fake_model_has_no_files_that_change():
    served = ServedText(ModelSettings(model="fake"), None, _nobody)
    served.resolve()
    assert not served.has_changed()


def test_a_text_that_is_forgotten_while_it_is_read_is_not_that_of_what_comes_after(monkeypatch):
    is_read, may_end = threading.Event(), threading.Event()

    def load_late(*arguments: Any) -> ModelText:
        is_read.set()
        may_end.wait(LIMIT_SECONDS)
        return load_text(*arguments)

    async def play() -> None:
        served = ServedText(ModelSettings(model="fake"), None, _nobody)
        served.resolve()
        monkeypatch.setattr(served_text, "load_text", load_late)
        reading = asyncio.create_task(served.load())
        await until(is_read.is_set)
        served.forget()
        served.resolve()
        may_end.set()
        with pytest.raises(UnavailableError, match="have changed"):
            await reading
        assert not served.is_loaded
        await served.load()
        assert served.text.eos_token_ids
        served.close()

    asyncio.run(play())
