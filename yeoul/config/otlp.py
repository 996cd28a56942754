"""Whether OpenTelemetry is told of requests, and where: the flag, else the environment as the SDK reads it."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from yeoul.config.settings import ServerSettings
from yeoul.errors import ConfigError

logger = logging.getLogger(__name__)

_FLAG = "--otlp-traces-endpoint"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_MODULES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
_PATH = "/v1/traces"
_CREDENTIALS = re.compile(r"://[^/]*@")


class OtlpTarget(NamedTuple):
    """``endpoint`` is where each batch of spans is posted to; None: the SDK finds it in the environment."""

    endpoint: str | None

    @property
    def shown(self) -> str:
        """As a log may have it, without a name and password in it."""
        return _CREDENTIALS.sub("://***@", self.endpoint) if self.endpoint else "what OTEL_EXPORTER_OTLP_ENDPOINT names"

    def cannot_be(self, reason: object) -> None:
        """OpenTelemetry does not start for this reason, such as a variable of its own that is wrong.

        Raises:
            ConfigError: the flag asks for it. What only the environment asks for is left out, with a line in the log.
        """
        told = f"OpenTelemetry's SDK does not start: {reason}; check the variables that begin with OTEL_"
        if self.endpoint is not None:
            raise ConfigError(f"{_FLAG}: {told}", param="otlp_traces_endpoint")
        logger.warning("no spans are sent: %s", told)


def find_otlp_target(server: ServerSettings, environment: Mapping[str, str] | None = None) -> OtlpTarget | None:
    """Where spans go; None where nobody asks for them.

    Raises:
        ConfigError: the flag asks for what cannot be. What only the environment asks for is left out then, with a line in
            the log: it may be meant for others.
    """
    variables = os.environ if environment is None else environment
    named = next((name for name in _ENDPOINTS if variables.get(name)), None)
    if variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if server.otlp_traces_endpoint is not None:
        endpoint = _checked(server.otlp_traces_endpoint)
        if (obstacle := _obstacle(server, variables)) is not None:
            raise ConfigError(f"{_FLAG}: {obstacle}", param="otlp_traces_endpoint")
        return OtlpTarget(endpoint)
    if named is None or variables.get("OTEL_TRACES_EXPORTER", "otlp").strip() == "none":
        return None
    if (obstacle := _obstacle(server, variables)) is not None:
        logger.warning("%s is set, and nothing is sent there: %s", named, obstacle)
        return None
    return OtlpTarget(None)


def _checked(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigError(
            f"{_FLAG} is {OtlpTarget(endpoint).shown!r}; expected an address such as http://127.0.0.1:4318/v1/traces",
            param="otlp_traces_endpoint",
        )
    return endpoint if parts.path.strip("/") else f"{endpoint.rstrip('/')}{_PATH}"


def _obstacle(server: ServerSettings, variables: Mapping[str, str]) -> str | None:
    """Why nothing can be sent, and what to do."""
    protocol = next((variables[name] for name in _PROTOCOLS if variables.get(name)), _PROTOCOL)
    if protocol != _PROTOCOL:
        return f"only {_PROTOCOL} is spoken here, and the environment asks for {protocol}; collectors take it on port 4318"
    if not server.request_log:
        return "spans are made of the request log; leave --no-request-log out"
    if not all(map(_is_there, _MODULES)):
        return "OpenTelemetry's SDK is not installed; pip install 'yeoul[otel]'"
    return None


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package above it
        return False
