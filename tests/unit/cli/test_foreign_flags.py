"""Command lines that were written for other servers."""

import re

import pytest
import typer

from yeoul.cli.foreign_flags import FOREIGN_COMMANDS, FOREIGN_FLAGS, foreign_in
from yeoul.cli.main import app, run
from yeoul.config.fields import setting_fields

# Copied from the documentation of each server.
COMMAND_LINES = {
    "vLLM": "serve m --gpu-memory-utilization 0.9 --enforce-eager --trust-remote-code -tp 2 --max-model-len 4096",
    "vLLM, agents": "serve m --enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser qwen3 --enable-reasoning",
    "SGLang": "serve --model-path m --mem-fraction-static 0.8 --tp 2 --context-length 8192 --disable_radix_cache",
    "llama.cpp": "serve -m m.gguf -c 8192 -ngl 99 -np 4 -t 8 -fa on --mlock --jinja",
    "Ollama": "run llama3.2 --keepalive 5m --think",
}


def own_flags():
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("line", COMMAND_LINES.values(), ids=COMMAND_LINES)
def test_a_line_of_another_server_is_answered_with_advice_for_each_of_its_flags(capfd, line):
    assert run(line.split()) == 2
    err = capfd.readouterr().err
    foreign = [word.partition("=")[0] for word in line.split() if word.startswith("-") and word not in own_flags()]
    assert len(foreign) >= 2
    for flag in foreign:
        assert re.search(rf"^  {re.escape(flag)} +(here|not needed here|not built yet)", err, re.MULTILINE), err
    assert "--max-model-len" not in re.findall(r"^  (\S+)", err, re.MULTILINE)


def test_what_exists_here_is_not_in_the_table():
    assert not own_flags() & set(FOREIGN_FLAGS)
    assert not {command.name for command in app.registered_commands} & set(FOREIGN_COMMANDS)


def test_the_advice_names_only_what_exists_here():
    known = own_flags() | {"--served-model-name"}
    for flag, advice in FOREIGN_FLAGS.items():
        for named in re.findall(r"--[a-z][a-z0-9-]+", advice):
            assert named in known, f"{flag}: {advice}"


def test_every_advice_says_what_to_do():
    for advice in FOREIGN_FLAGS.values():
        assert re.match(r"here \S|not (needed here|built yet), leave it out: \S", advice), advice


def test_a_flag_is_found_however_it_is_spelt_and_in_the_order_of_the_line():
    found = foreign_in(
        ["--enforce_eager", "x", "--gpu_memory_utilization=0.9", "--port", "-tp", "--enforce_eager"], ["--port"]
    )
    assert list(found) == ["--enforce_eager", "--gpu_memory_utilization", "-tp"]


def test_names_of_settings_and_of_foreign_flags_do_not_hide_each_other():
    variables = {field.variable for field in setting_fields().values()}
    assert not {f"YEOUL_{flag.strip('-').upper().replace('-', '_')}" for flag in FOREIGN_FLAGS} & variables
