"""Where spans go: the flag asks and errs aloud, the environment asks and is passed over with a line in the log."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from yeoul.config.otlp import OtlpTarget, find_otlp_target
from yeoul.config.settings import ServerSettings
from yeoul.errors import ConfigError

FLAG = ServerSettings(otlp_traces_endpoint="http://collector:4318")
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """Whether the SDK can be found."""
    found: dict[str, Any] = {"is_there": True}

    def find_spec(name: str) -> object:
        if not found["is_there"]:
            raise ModuleNotFoundError(name)
        return object()

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    return found


@pytest.mark.parametrize(
    ("given", "posted_to"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://[::1]:4318/v1/traces", "https://[::1]:4318/v1/traces"),
        ("http://collector/api/otlp/v1/traces", "http://collector/api/otlp/v1/traces"),
    ],
)
def test_a_flag_names_where_spans_are_posted_to(given, posted_to):
    assert find_otlp_target(ServerSettings(otlp_traces_endpoint=given), ENDPOINT) == OtlpTarget(posted_to)


@pytest.mark.parametrize(
    "given", ["", "collector:4318", "grpc://collector:4317", "http://", "http://a:b", "http://a:99999", "[::1"]
)
def test_what_is_no_address_is_a_mistake(given):
    with pytest.raises(ConfigError, match="expected an address such as"):
        find_otlp_target(ServerSettings(otlp_traces_endpoint=given), {})


def test_a_password_in_an_address_is_not_shown():
    assert OtlpTarget("https://me:p@ss@collector/v1/traces").shown == "https://***@collector/v1/traces"
    with pytest.raises(ConfigError) as caught:
        find_otlp_target(ServerSettings(otlp_traces_endpoint="http://me:pass@collector:x"), {})
    assert "pass" not in caught.value.message


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_the_environment_asks_as_the_sdk_reads_it(name):
    assert find_otlp_target(ServerSettings(), {name: "http://collector:4318"}) == OtlpTarget(None)
    assert find_otlp_target(ServerSettings(), {name: ""}) is None
    assert find_otlp_target(ServerSettings(), {name: "http://c", "OTEL_SDK_DISABLED": "TRUE"}) is None
    assert find_otlp_target(ServerSettings(), {name: "http://c", "OTEL_TRACES_EXPORTER": "none"}) is None
    assert find_otlp_target(ServerSettings(), {}) is None


def test_without_the_sdk_the_flag_is_a_mistake_and_the_environment_is_passed_over(installed, caplog):
    installed["is_there"] = False
    with pytest.raises(ConfigError, match=r"pip install 'yeoul\[otel\]'"):
        find_otlp_target(FLAG, {})
    assert find_otlp_target(ServerSettings(), ENDPOINT) is None
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set, and nothing is sent there" in caplog.text


@pytest.mark.parametrize(
    ("server", "variables", "complaint"),
    [
        (ServerSettings(otlp_traces_endpoint="http://c", request_log=False), {}, "leave --no-request-log out"),
        (FLAG, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "only http/protobuf is spoken here"),
        (FLAG, {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "asks for http/json"),
    ],
)
def test_what_cannot_be_sent_is_a_mistake(server, variables, complaint):
    with pytest.raises(ConfigError, match=complaint):
        find_otlp_target(server, variables)
