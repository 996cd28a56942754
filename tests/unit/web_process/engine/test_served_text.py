"""What is known of a model's files is known of those files: others in their place are noticed."""

from __future__ import annotations

import os

from tests.unit.models.tiny_models import make_model, save_gguf
from yeoul.config.settings import ModelSettings
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
