"""The command line: flags, help, errors and exit codes."""

import subprocess
import sys

import pytest
import typer

import yeoul
from tests.unit.model_files.gguf_bytes import tiny_model
from yeoul.cli import serve as serve_module
from yeoul.cli.main import app, run
from yeoul.cli.setting_flags import COMMON_SETTINGS
from yeoul.config.fields import setting_fields
from yeoul.config.settings import Settings
from yeoul.errors import InternalError, ModelFileError
from yeoul.model_files import models_folder


@pytest.fixture
def served(monkeypatch):
    """The settings that a server would have been started with."""
    settings: list[Settings] = []

    def run_nothing(choices):
        settings.extend(choice.settings for choice in choices)
        return 0

    monkeypatch.setattr(serve_module, "_run", run_nothing)
    return settings


def error_of(capfd, *arguments):
    code = run(arguments)
    out, err = capfd.readouterr()
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    return err.rstrip("\n")


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_printed(capfd, flag):
    assert run([flag]) == 0
    assert capfd.readouterr().out == f"yeoul {yeoul.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["bench"], ["bench", "--help"], ["chat", "-h"]])
def test_help_is_printed_also_where_a_command_is_missing(capfd, arguments):
    assert run(arguments) == 0
    assert "Usage: yeoul" in capfd.readouterr().out


def test_the_help_of_serve_shows_twenty_flags_and_says_how_many_more_there_are(capfd):
    assert run(["serve", "--help"]) == 0
    out = capfd.readouterr().out
    shown = {field.name for field in setting_fields().values() if f"\n  {field.flag} " in out}
    assert shown == COMMON_SETTINGS
    assert len(shown) == 20
    assert out.count("\n") < 90
    assert f"{len(setting_fields()) - 20} more flags: yeoul serve --help-all" in out


@pytest.mark.parametrize("command", ["serve", "chat", "run"])
def test_the_whole_help_has_every_setting_whole_and_in_its_group(capfd, command):
    assert run([command, "--help-all"]) == 0
    sections = capfd.readouterr().out.split("\n\n")
    for field in setting_fields().values():
        (section,) = [text for text in sections if text.startswith(field.group_title + ":\n")]
        assert f"\n  {field.flag} " in section, field.name
        words = " ".join(section.split())
        assert field.description in words, field.name


def test_flags_become_settings(served):
    arguments = ["serve", "some/model", "--max-model-len", "4096", "--kv-cache-memory-bytes", "1GiB", "--api-key", "a"]
    assert run([*arguments, "--api-key", "b", "--no-enable-prefix-caching", "--max_num_seqs", "7", "--port=0"]) == 0
    (settings,) = served
    assert settings.model.model == "some/model"
    assert settings.model.max_model_len == 4096
    assert settings.cache.kv_cache_memory_bytes == 1 << 30
    assert settings.cache.enable_prefix_caching is False
    assert settings.scheduler.max_num_seqs == 7
    assert settings.server.api_key == ["a", "b"]
    assert settings.server.port == 0


def test_serve_without_a_model_leaves_it_to_the_default(served):
    assert run(["serve"]) == 0
    assert served[0].model.model is None


def test_the_model_may_be_a_flag_but_there_is_only_one(served, capfd):
    assert run(["serve", "--model", "m"]) == 0
    assert run(["serve", "m", "--model", "m"]) == 0
    assert [settings.model.model for settings in served] == ["m", "m"]
    assert "two models are given, 'm' and --model 'x'" in error_of(capfd, "serve", "m", "--model", "x")


def test_a_config_file_is_read_and_a_flag_wins_over_it(served, tmp_path):
    (tmp_path / "yeoul.toml").write_text('model = "m"\nport = 1\nblock_size = 32\n')
    assert run(["serve", "--config", str(tmp_path / "yeoul.toml"), "--port", "2"]) == 0
    assert (served[0].model.model, served[0].server.port, served[0].cache.block_size) == ("m", 2, 32)


def test_the_exit_code_is_the_servers(monkeypatch):
    monkeypatch.setattr(serve_module, "_run", lambda _: 3)
    assert run(["serve"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--max-modl-len", "5"], "--max-modl-len is no flag of yeoul serve. Did you mean --max-model-len?"),
        (["serve", "--max_modl_len=5"], "--max-modl-len is no flag of yeoul serve. Did you mean --max-model-len?"),
        (["serve", "--no-prefix-caching"], "Did you mean --no-enable-prefix-caching?"),
        (["serve", "--port"], "See yeoul serve --help"),
        (["serve", "--alowed-origin", "x"], "--alowed-origin is no flag of yeoul serve."),
        (["serve", "a", "--served-model-name", "b", "c"], "repeat --served-model-name for each further name"),
        (["ps"], "No such command 'ps': /v1/models of a server says"),
        (["serve", "--port"], "Option '--port' requires an argument"),
        (["serve", "--port", "http"], "--port is 'http'; expected a whole number from 0 to 65535"),
        (["serve", "a", "b", "--model", "c"], "--model is for one model, and several are given"),
        (["serv"], "Did you mean 'serve'?"),
        (["bench", "srve"], "Did you mean 'serve'?"),
        (["bench", "serve", "--num-prompt", "1"], "Did you mean --num-prompts?"),
        (["bench", "serve", "--num-prompts", "0"], "--num-prompts"),
        (["bench", "serve", "--num-prompts", "x"], "--num-prompts"),
        (["serve", "--config", "/nowhere.toml"], "cannot read the config file /nowhere.toml"),
        (["serve", "--headless"], "give --engine-address as well"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(capfd, arguments, message):
    assert message in error_of(capfd, *arguments)


@pytest.mark.parametrize(
    ("error", "code"), [(ModelFileError("no such file"), 2), (InternalError("it broke"), 1), (KeyboardInterrupt(), 130)]
)
def test_what_a_command_raises_becomes_its_exit_code(monkeypatch, capfd, error, code):
    def fail(_):
        raise error

    monkeypatch.setattr(serve_module, "_run", fail)
    assert run(["serve"]) == code
    assert capfd.readouterr().err == (f"yeoul: {error}\n" if code != 130 else "")


def test_a_variable_that_is_no_setting_is_named_and_ends_nothing(monkeypatch, caplog, served):
    monkeypatch.setenv("YEOUL_PROT", "1")
    assert run(["serve"]) == 0
    assert served[0].server.port == 8000
    assert "YEOUL_PROT is no setting and changes nothing. Did you mean YEOUL_PORT?" in caplog.text


@pytest.mark.parametrize("key", ["", " "])
def test_a_key_that_is_empty_is_a_mistake(monkeypatch, capfd, key):
    assert "--api-key is" in error_of(capfd, "serve", "--api-key", key)
    monkeypatch.setenv("YEOUL_API_KEY", key)
    assert "YEOUL_API_KEY is given and empty" in error_of(capfd, "serve")


def test_the_commands_are_these():
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert set(commands) == {
        "serve",
        "chat",
        "run",
        "pull",
        "list",
        "rm",
        "replay",
        "trace",
        "run-batch",
        "top",
        "topology",
        "bench",
        "cache",
        "doctor",
    }


def test_the_command_line_loads_nothing_heavy():
    heavy = {"torch", "fastapi", "uvicorn", "pydantic", "huggingface_hub", "numpy", "httpx", "zmq", "rich", "asyncio"}
    script = "import sys, yeoul.cli.main; print(*sorted(set(sys.modules) & set(sys.argv[1:])))"
    done = subprocess.run([sys.executable, "-c", script, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_python_dash_m_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "yeoul", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"yeoul {yeoul.__version__}\n"


def test_a_reader_that_has_had_enough_causes_no_traceback():
    command = f"{sys.executable} -m yeoul serve --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_file_that_cannot_be_used_in_a_folder_of_models_is_told_and_left_out(served, caplog, monkeypatch, tmp_path):
    monkeypatch.setattr(serve_module, "set_up_logging", lambda *_: None)
    (tmp_path / "half.gguf").write_bytes(bytes(64))
    (tmp_path / "whole.gguf").write_bytes(tiny_model().build())
    assert run(["serve", "fake", "--models-dir", str(tmp_path)]) == 0
    assert [settings.model.model for settings in served] == ["fake", str(tmp_path / "whole.gguf")]
    assert "the model half is left out" in caplog.text


def test_a_fetched_model_and_one_of_a_folder_of_one_name_are_told(served, capfd, monkeypatch, tmp_path):
    (tmp_path / "one.gguf").write_bytes(tiny_model().build())
    monkeypatch.setattr(models_folder, "models_cached", lambda _: {"one": "one"})
    error = error_of(capfd, "serve", "--models-cached", "--models-dir", str(tmp_path))
    assert "two models are called 'one', one of --models-dir" in error
