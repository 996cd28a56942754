"""Which models a server has: of the command line, of a file with a table each; what cannot be is told."""

from __future__ import annotations

import pytest

from yeoul.config.models import ModelChoice, choose_models
from yeoul.config.settings import Settings
from yeoul.errors import ConfigError

TABLES = """
[small]
model = "org/small"
max-model-len = 4096
served-model-name = ["little"]
load-on-startup = true
["org/other"]
model_ttl_seconds = 60
"""


def choose(tmp_path, text=None, models=(), **flags) -> list[ModelChoice]:
    if text is not None:
        path = tmp_path / "models.toml"
        path.write_text(text)
        flags["models_file"] = str(path)
    return choose_models(flags, None, models)


def test_one_model_is_as_it_always_was(tmp_path):
    (choice,) = choose(tmp_path, models=["org/name"], model="org/name", served_model_name=["x", "y"])
    assert (choice.settings.model.model, choice.names, choice.loads_at_start) == ("org/name", ["x", "y"], True)


def test_several_on_the_command_line_have_their_own_names_and_share_the_flags(tmp_path):
    one, other = choose(tmp_path, models=["org/a", "/models/b.gguf"], max_model_len="512")
    assert (one.names, other.names) == (["org/a"], ["/models/b.gguf"])
    assert [choice.settings.model.max_model_len for choice in (one, other)] == [512, 512]
    assert not one.loads_at_start


def test_a_table_has_a_name_and_settings_that_win_over_flags(tmp_path):
    small, other = choose(tmp_path, TABLES, max_model_len="512")
    assert (small.names, small.settings.model.model, small.settings.model.max_model_len) == (
        ["small", "little"],
        "org/small",
        4096,
    )
    assert small.loads_at_start
    assert (other.names, other.settings.model.model, other.settings.model.max_model_len) == (["org/other"], "org/other", 512)
    assert other.settings.fleet.model_ttl_seconds == 60
    assert small.settings.fleet.model_ttl_seconds is None


def test_models_of_the_command_line_and_of_the_file_come_together(tmp_path):
    assert [choice.names[0] for choice in choose(tmp_path, TABLES, models=["fake"])] == ["fake", "small", "org/other"]


@pytest.mark.parametrize(
    ("text", "models", "flags", "told"),
    [
        ("[a]\nmodel = 1", (), {}, "expected a text"),
        ("[a]\nport = 1", (), {}, "the whole server's"),
        ("[a]\nmax-model-length = 1", (), {}, "is no setting. Did you mean max_model_len?"),
        ("[a]\nload-on-startup = 'yes'", (), {}, "expected true or false"),
        ("a = 1", (), {}, "outside of a table"),
        ("", (), {}, "is empty"),
        ("[a", (), {}, "is not valid TOML"),
        ("[a]\nmodel = 'fake'\nserved-model-name = 'b'\n[b]\nmodel = 'fake'", (), {}, "two models are called 'b'"),
        (None, ("fake", "fake"), {}, "two models are called 'fake'"),
        (None, ("a", "b"), {"served_model_name": ["x"]}, "--models-file"),
        (None, ("a", "b"), {"engine_address": "tcp://h:5555", "engine_key_file": "k"}, "joins one engine"),
        (None, (), {"models_file": "/nowhere/models.toml"}, "cannot read the models file /nowhere/models.toml: No such file"),
    ],
)
def test_what_cannot_be_is_told(tmp_path, text, models, flags, told):
    with pytest.raises(ConfigError) as caught:
        choose(tmp_path, text, models, **flags)
    assert told in caught.value.message


def test_models_that_are_found_come_as_well_and_a_table_may_have_settings_for_one(tmp_path):
    path = tmp_path / "models.toml"
    path.write_text("[b]\nmax-model-len = 64\n")
    flags = {"models_file": str(path)}
    chosen = choose_models(flags, None, ["fake"], lambda _: {"a": "/models/a.gguf", "b": "/models/b.gguf", "fake": "fake"})
    assert [(one.names, one.settings.model.model) for one in chosen] == [
        (["fake"], "fake"),
        (["b"], "/models/b.gguf"),
        (["a"], "/models/a.gguf"),
    ]
    assert [one.settings.model.max_model_len for one in chosen] == [None, 64, None]
    assert not any(one.loads_at_start for one in chosen)


def test_of_models_that_nobody_named_those_that_cannot_be_used_are_left_out(tmp_path):
    path = tmp_path / "models.toml"
    path.write_text("[named]\nseed = 7\n")
    found = {"good": "/models/good.gguf", "half": "/models/half.gguf", "named": "/models/named.gguf"}
    asked: list[str] = []

    def is_usable(name: str, settings: Settings) -> bool:
        asked.append(name)
        return settings.model.model == "/models/good.gguf"

    chosen = choose_models({"models_file": str(path)}, None, ["fake"], lambda _: found, is_usable)
    assert [choice.names[0] for choice in chosen] == ["fake", "named", "good"]
    assert asked == ["good", "half"]
    with pytest.raises(ConfigError, match="none of the models that were found can be used: half"):
        choose_models({}, None, [], lambda _: {"half": "/models/half.gguf"}, is_usable)


def test_a_model_that_is_named_by_a_flag_is_served_beside_those_of_a_file(tmp_path):
    assert [choice.names[0] for choice in choose(tmp_path, TABLES, model="fake")] == ["fake", "small", "org/other"]


def test_where_nothing_was_fetched_it_is_said(tmp_path):
    with pytest.raises(ConfigError, match="nothing was fetched yet"):
        choose(tmp_path, models_cached=True)
