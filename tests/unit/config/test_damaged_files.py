"""Files that a user hands over and that hold anything at all: config files, keys, recovery reports."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile_bytes import damaged, little_time
from tests.unit.messages.samples import ADD
from yeoul.config.build import build_settings
from yeoul.config.file import ENDINGS, read_config_file
from yeoul.config.settings import Settings
from yeoul.errors import ConfigError
from yeoul.recovery.recovery_report import RecoveryReport, StepRecord, read_report
from yeoul.transport.curve_keys import load_keys, load_or_create_keys

CONFIGS = {
    ".toml": b'model = "fake"\n[cache]\nkv-cache-memory-bytes = "4GiB"\n[server]\napi-key = ["a", "b"]\nport = 8000\n',
    ".yaml": b"model: fake\ncache:\n  kv-cache-memory-bytes: 4GiB\nserver: {api-key: [a, b], port: 8000}\nx: &a [1, *a]\n",
    ".json": b'{"model": "fake", "cache": {"block-size": 16}, "server": {"api-key": ["a"], "port": 8000}}',
}


def written(name: str, content: bytes) -> Any:
    """A context manager that gives the path of a file with this content, readable by its owner alone."""

    @contextlib.contextmanager
    def file() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.touch(mode=0o600)
            path.write_bytes(content)
            yield str(path)

    return file()


@pytest.mark.parametrize("ending", ENDINGS)
@given(data=st.data())
@settings(max_examples=150)
@little_time(2)
def test_a_damaged_config_file_is_read_or_refused(ending, data):
    raw = data.draw(damaged([CONFIGS[".yaml" if ending == ".yml" else ending]]))
    with written(f"config{ending}", raw) as path, contextlib.suppress(ConfigError):
        read_config_file(path)
        build_settings({}, config_file=path, environment={})


@pytest.mark.parametrize(
    "text", ["port: 2026-99-99", "port: 0x", "port: !!int ''", "? [a]\n: b", "x: &a [*a]", "[" * 3000, "port: 1" + "0" * 5000]
)
def test_what_yaml_stumbles_over_is_refused_in_words(text):
    with written("config.yaml", text.encode()) as path, pytest.raises(ConfigError):
        build_settings({}, config_file=path, environment={})


with tempfile.TemporaryDirectory() as _folder:
    load_or_create_keys(f"{_folder}/keys")
    KEYS = Path(f"{_folder}/keys").read_bytes()


@given(damaged([KEYS]))
@settings(max_examples=200)
@little_time(2)
def test_a_damaged_key_file_is_refused_or_still_whole(raw):
    with written("keys", raw) as path, contextlib.suppress(ConfigError):
        keys = load_keys(path)
        assert {len(key) for key in msgspec.structs.astuple(keys)} == {40}


REPORT = RecoveryReport(
    version="1", time="2026-01-01T00-00-00Z", role="Worker_0", cause="died", exit_code=-9, details="trace",
    model=Settings().model, max_model_len=64, cache=Settings().cache, scheduler=Settings().scheduler,
    parallel=Settings().parallel, fake=Settings().fake,
    last_steps=[StepRecord(step_number=1, num_tokens={"r": 3}, limit_seconds=5.0)], requests=[ADD],
)  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"max_model_len": -5}, "max_model_len"),
        ({"max_model_len": 10**15}, "max_model_len"),
        ({"parallel": {"tensor_parallel_size": 10**9}}, "tensor_parallel_size"),
        ({"cache": {"block_size": 0}}, "block_size"),
        ({"scheduler": {"max_num_seqs": -1}}, "max_num_seqs"),
        ({"requests": [{"type": "shutdown"}]}, "requests"),
    ],
    ids=str,
)
def test_a_report_of_settings_that_cannot_be_is_refused(fields, named):
    raw = msgspec.json.encode(msgspec.to_builtins(REPORT) | fields)
    with (
        written("report.json", raw) as path,
        pytest.raises(ConfigError, match=f"no recovery report of this version.*{named}"),
    ):
        read_report(path)


@given(damaged([msgspec.json.encode(REPORT)]))
@settings(max_examples=200)
@little_time(2)
def test_a_damaged_recovery_report_is_read_or_refused(raw):
    with written("report.json", raw) as path, contextlib.suppress(ConfigError):
        assert isinstance(read_report(path), RecoveryReport)
