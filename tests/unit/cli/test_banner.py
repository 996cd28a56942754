"""What the terminal shows when a server is ready."""

import json
import os
import shlex

import msgspec
import pytest

from yeoul.cli.banner import headless_banner, server_banner
from yeoul.config.build import build_settings
from yeoul.config.settings import Settings
from yeoul.messages.outputs import EngineReady, WorkerInfo

URL = "http://127.0.0.1:8000"


def ready(num_workers=1):
    return EngineReady(
        version="0.1.0",
        pid=101,
        num_blocks=4096,
        block_size=16,
        cache_bytes=3 << 29,
        max_model_len=8192,
        model_fingerprint="f",
        workers=[WorkerInfo(rank, 102 + rank, "cpu") for rank in range(num_workers)],
    )


def test_the_tree_names_every_process_with_its_pid():
    lines = server_banner(Settings(), "m", ready(3), URL).splitlines()
    assert lines[2:7] == [
        f"  yeoul::Web             pid {os.getpid()}",
        "  └─ yeoul::EngineCore   pid 101",
        "     ├─ yeoul::Worker_0  pid 102  cpu",
        "     ├─ yeoul::Worker_1  pid 103  cpu",
        "     └─ yeoul::Worker_2  pid 104  cpu",
    ]


def test_one_worker_closes_the_tree():
    assert "     └─ yeoul::Worker_0  pid 102  cpu" in server_banner(Settings(), "m", ready(), URL).splitlines()


def test_of_several_engines_each_has_its_workers_below_it():
    several = msgspec.structs.replace(ready(4), pids=[101, 201])
    assert server_banner(Settings(), "m", several, URL).splitlines()[2:9] == [
        f"  yeoul::Web              pid {os.getpid()}",
        "  ├─ yeoul::EngineCore_0  pid 101",
        "  │  ├─ yeoul::Worker_0   pid 102  cpu",
        "  │  └─ yeoul::Worker_1   pid 103  cpu",
        "  └─ yeoul::EngineCore_1  pid 201",
        "     ├─ yeoul::Worker_2   pid 104  cpu",
        "     └─ yeoul::Worker_3   pid 105  cpu",
    ]


def test_model_memory_and_address_are_named():
    banner = server_banner(Settings(), "some/model", ready(), URL)
    assert "serves some/model, 8,192 tokens of context" in banner
    assert "KV cache:  1.5GiB for 65,536 tokens (4,096 blocks of 16); --kv-cache-memory-bytes sets it" in banner
    assert f"Address:   {URL}" in banner
    set_by_hand = build_settings({"kv_cache_memory_bytes": "1.5GiB"}, None, {})
    assert "1.5GiB for 65,536 tokens (4,096 blocks of 16); as set" in server_banner(set_by_hand, "m", ready(), URL)


@pytest.mark.parametrize("name", ["m", 'it\'s a "model"; rm -rf /', "여울"])
def test_the_line_to_try_is_a_command_that_a_shell_reads_as_meant(name):
    settings = build_settings({"served_model_name": [name]}, None, {})
    line = server_banner(settings, "other", ready(), URL).splitlines()[-1]
    command = shlex.split(line)
    assert command[:2] == ["curl", f"{URL}/v1/chat/completions"]
    assert json.loads(command[-1])["model"] == name


def test_a_key_is_asked_for_and_never_shown():
    banner = server_banner(build_settings({"api_key": ["secret"]}, None, {}), "m", ready(), URL)
    assert "Authorization: Bearer YOUR_API_KEY" in banner
    assert "secret" not in banner


def test_the_page_has_its_line_and_a_link_that_lets_in_says_so():
    link = f"{URL}/#login=code"
    assert f"Page:      {URL}/" in server_banner(Settings(), "m", ready(), URL, f"{URL}/").splitlines()
    with_key = server_banner(build_settings({"api_key": ["secret"]}, None, {}), "m", ready(), URL, link)
    assert f"Page:      {link}  (lets one browser in, within an hour)" in with_key.splitlines()
    assert "Page:" not in server_banner(Settings(), "m", ready(), URL)


def test_a_web_process_apart_from_its_engine_shows_where_that_is():
    settings = build_settings({"engine_address": "tcp://10.0.0.1:5555", "engine_key_file": "keys"}, None, {})
    banner = server_banner(settings, "m", ready(), URL)
    assert "its engine is at tcp://10.0.0.1:5555" in banner
    assert "yeoul::Worker_0" not in banner


def test_a_headless_engine_says_how_it_is_joined():
    flags = {"headless": True, "engine_address": "tcp://0.0.0.0:5555", "engine_key_file": "my keys"}
    banner = headless_banner(build_settings(flags, None, {}), "m", ready(2))
    assert f"  yeoul::Headless        pid {os.getpid()}" in banner
    assert "     └─ yeoul::Worker_1  pid 103  cpu" in banner
    assert "--engine-key-file 'my keys'" in banner
