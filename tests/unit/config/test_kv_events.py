"""--kv-events-config: vLLM's spelling is read, whatever cannot work is refused with a reason."""

from __future__ import annotations

import json

import pytest

from yeoul.config.build import build_settings
from yeoul.config.kv_events import is_loopback, listens_on, read_kv_events
from yeoul.config.models import choose_models
from yeoul.errors import ConfigError

VLLM = {
    "enable_kv_cache_events": True, "publisher": "zmq", "endpoint": "tcp://*:5557", "replay_endpoint": "tcp://*:5558",
    "buffer_steps": 100, "hwm": 200, "max_queue_size": 300, "topic": "kv@pod@model",
}  # fmt: skip


def test_vllms_object_is_read_whole():
    config = read_kv_events(json.dumps(VLLM))
    assert config is not None
    assert config.endpoints == ["tcp://*:5557", "tcp://*:5558"]
    assert (config.buffer_steps, config.hwm, config.max_queue_size, config.topic) == (100, 200, 300, "kv@pod@model")


@pytest.mark.parametrize("text", [None, "{}", '{"enable_kv_cache_events": false}', json.dumps({**VLLM, "publisher": "null"})])
def test_nothing_is_told_unless_somebody_asks(text):
    assert read_kv_events(text) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tcp://*:5557", "JSON is malformed"),
        ("[]", "Expected `object`"),
        ('{"enabled": true}', "unknown field `enabled`"),
        ('{"enable_kv_cache_events": 1}', "Expected `bool`"),
        (json.dumps({**VLLM, "publisher": "kafka"}), "kafka"),
        (json.dumps({**VLLM, "buffer_steps": -1}), "buffer_steps"),
        (json.dumps({**VLLM, "endpoint": "5557"}), "expected tcp://HOST:PORT"),
        (json.dumps({**VLLM, "endpoint": "tcp://*:0"}), "expected tcp://HOST:PORT"),
        (json.dumps({**VLLM, "endpoint": "tcp://*:70000"}), "expected tcp://HOST:PORT"),
        (json.dumps({**VLLM, "endpoint": "inproc://events"}), "expected tcp://HOST:PORT"),
        (json.dumps({**VLLM, "endpoint": "ipc://events"}), "ipc:///a/file"),
        (json.dumps({**VLLM, "replay_endpoint": "tcp://127.0.0.1:5557"}), "need a port each"),
    ],
)
def test_what_cannot_work_is_refused_with_what_was_expected(text, told):
    with pytest.raises(ConfigError, match="--kv-events-config") as error:
        build_settings({"kv_events_config": text}, environment={})
    assert told in error.value.message


def test_several_engines_have_the_ports_behind_each_other_as_in_vllm():
    config = read_kv_events(json.dumps({**VLLM, "replay_endpoint": "tcp://[::1]:5657"}), num_engines=3)
    assert config is not None
    assert config.of_engine(0) == config
    assert config.of_engine(2).endpoints == ["tcp://*:5559", "tcp://[::1]:5659"]
    in_folders = read_kv_events('{"enable_kv_cache_events": true, "endpoint": "ipc:///a/live"}', num_engines=2)
    assert in_folders is not None
    assert in_folders.of_engine(1).endpoints == ["ipc:///a/live_dp1"]


@pytest.mark.parametrize(
    ("addresses", "told"),
    [
        ({}, "in each of 2 engines, which count on from these: take two that are 2 or more apart"),
        ({"endpoint": "tcp://*:5657", "replay_endpoint": "tcp://*:65535"}, "'tcp://*:65536'; expected tcp://HOST:PORT"),
    ],
)
def test_ports_that_several_engines_do_not_have_are_refused(addresses, told):
    flags = {"kv_events_config": json.dumps({**VLLM, **addresses}), "data_parallel_size": 2}
    with pytest.raises(ConfigError) as error:
        build_settings(flags, environment={})
    assert told in error.value.message


def test_a_config_file_may_have_a_table(tmp_path):
    path = tmp_path / "yeoul.yaml"
    path.write_text("cache:\n  kv-events-config:\n    enable_kv_cache_events: true\n    topic: t\n")
    config = read_kv_events(build_settings({}, str(path), environment={}).cache.kv_events_config)
    assert config is not None
    assert config.topic == "t"


@pytest.mark.parametrize(
    ("flags", "told"), [({"enable_prefix_caching": False}, "there are none"), ({"api_key": ["a", "b"]}, "one key")]
)
def test_events_that_would_never_come_are_refused(flags, told):
    with pytest.raises(ConfigError, match=told):
        build_settings({"kv_events_config": json.dumps(VLLM), **flags}, environment={})
    build_settings({"kv_events_config": json.dumps(VLLM), "api_key": ["a"]}, environment={})


@pytest.mark.parametrize(
    ("endpoint", "listens", "loopback"),
    [
        ("tcp://*:5557", True, False),
        ("tcp://0.0.0.0:5557", True, False),
        ("tcp://[::]:5557", True, False),
        ("tcp://127.0.0.1:5557", True, True),
        ("tcp://localhost:5557", True, True),
        ("tcp://[::1]:5557", True, True),
        ("ipc:///tmp/events", True, True),
        ("tcp://router.example.com:5557", False, False),
        ("tcp://10.0.0.5:5557", False, False),
    ],
)
def test_an_address_is_listened_on_or_somebodys_to_connect_to(endpoint, listens, loopback):
    assert (listens_on(endpoint), is_loopback(endpoint)) == (listens, loopback)


def test_models_of_one_server_need_addresses_of_their_own(tmp_path):
    flags = {"kv_events_config": json.dumps(VLLM)}
    with pytest.raises(ConfigError, match=r"two models would tell of their KV events at tcp://\*:5557"):
        choose_models(flags, None, ["one", "two"])
    path = tmp_path / "models.toml"
    for port in (5557, 5559):
        with path.open("a") as file:
            file.write(f"[m{port}]\nmodel = 'fake'\nkv-events-config = {{enable_kv_cache_events = true,")
            file.write(f" endpoint = 'tcp://*:{port}'}}\n")
    assert len(choose_models({"models_file": str(path)}, None, [])) == 2
