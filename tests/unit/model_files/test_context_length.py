"""How long a request may be, by what a model's file says of its positions."""

from __future__ import annotations

import msgspec
import pytest

from yeoul.errors import ConfigError
from yeoul.model_files.context_length import choose_max_model_len
from yeoul.model_files.describe import fake_description
from yeoul.model_files.description import ModelDescription, RopeScaling

LINEAR = RopeScaling(kind="linear", factor=4.0)


def model(scaling: RopeScaling = LINEAR, architecture: str = "llama") -> ModelDescription:
    return msgspec.structs.replace(
        fake_description(), max_position_embeddings=256, rope_scaling=scaling, architecture=architecture
    )


def test_the_files_number_is_the_default_and_the_log_tells_that_there_may_be_more(caplog):
    caplog.set_level("INFO")
    assert choose_max_model_len(None, model(RopeScaling())) == 256
    assert not caplog.text
    assert choose_max_model_len(None, model()) == 256
    assert "up to 1024 can be had with --max-model-len" in caplog.text


def test_who_asks_for_the_stretched_context_gets_it_and_a_line_in_the_log(caplog):
    assert choose_max_model_len(1024, model()) == 1024
    assert "256 positions times 4" in caplog.text
    caplog.clear()
    assert choose_max_model_len(200, model()) == 200
    assert not caplog.text


@pytest.mark.parametrize(
    ("described", "wanted"),
    [
        (model(), 1025),
        (model(RopeScaling()), 257),
        (model(architecture="gemma3"), 257),
        (model(RopeScaling(kind="llama3", factor=8.0)), 257),
        (model(RopeScaling(kind="linear", factor=0.5)), 257),
    ],
)
def test_more_than_the_positions_reach_is_refused(described, wanted):
    with pytest.raises(ConfigError, match=f"max_model_len is {wanted}, but this model has"):
        choose_max_model_len(wanted, described)
