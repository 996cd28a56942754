"""Builds ``Settings`` once, from flags, the environment, a config file and the defaults, in this order of precedence.

The only place that reads the environment. Called by the command line and by ``LLM``; knows nothing of what is done with
the settings.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import msgspec

from yeoul.config.fields import ENVIRONMENT_PREFIX, as_flag, nearest, setting_fields
from yeoul.config.file import read_config_file
from yeoul.config.kv_events import read_kv_events
from yeoul.config.settings import ServerSettings, Settings
from yeoul.config.values import read_value
from yeoul.errors import ConfigError

logger = logging.getLogger(__name__)

CONFIG_FILE_VARIABLE = ENVIRONMENT_PREFIX + "CONFIG"

# Left out they mean an open server, so that an empty one is a secret that did not arrive and never "not set".
_KEYS = ("api_key", "api_key_file")

# What Kubernetes puts into every container where a service is called yeoul.
_SERVICE_LINK = re.compile(r"YEOUL_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")

# OpenMP and BLAS, malloc, the loader, CUDA and torch, the hub's client, proxies.
_STEERING = (
    *(
        "OMP_",
        "GOMP_",
        "KMP_",
        "MKL_",
        "OPENBLAS_",
        "MALLOC_",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "CUDA_",
        "TORCH_",
        "PYTORCH_",
    ),
    *("PYTHONPATH", "PYTHONOPTIMIZE", "HF_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"),
)

# As browsers write them: no port that the scheme has anyway. "null" is what files and sandboxed frames are.
_ORIGIN = re.compile(
    r"\*|null|(?!http:.*:80$|https:.*:443$)[a-z][a-z0-9+.-]*://(?:[^\s/*:@A-Z\[]+|\[[0-9a-f:.]+\])(?::\d{1,5})?"
)
_HOST = re.compile(r"\*|[^\s/*:@\[\]]+|[0-9a-f:.]+")

Origins = dict[str, str]
"""What the user wrote for a field, by field name; an error names it."""


def build_settings(
    flags: Mapping[str, object],
    config_file: str | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    spell: Callable[[str], str] = as_flag,
) -> Settings:
    """The settings: a flag wins over the environment, this over the config file, this over the default.

    Args:
        flags: values by field name; None is a flag that was not given.
        config_file: a TOML, YAML or JSON file; None looks at ``YEOUL_CONFIG``.
        environment: variables, of which ``YEOUL_<FIELD>`` are read; None is this process's.
        spell: how an error writes the name of a flag; a Python caller passes ``str``.

    Variables with our prefix that are no setting are somebody else's: each is a line in the log.

    Raises:
        ConfigError: an unknown name (it names the nearest known one), a value of the wrong kind or out of range, or
            values that do not go together.
    """
    variables = os.environ if environment is None else environment
    values: dict[str, object] = {}
    origins: Origins = {}
    config_file = config_file or environment_config_file(variables)
    if config_file is not None:
        in_file = read_config_file(config_file)
        in_file |= {name: "" for name in _KEYS if name in in_file and in_file[name] is None}  # "api_key:" without its secret
        _take(values, origins, in_file, lambda name: f"{name} in {config_file}")
    _take(values, origins, _from_environment(variables), lambda name: setting_fields()[name].variable)
    _take(values, origins, _from_flags(flags, spell), spell)
    _add_keys_of_file(values, origins)
    settings = _assemble(values)
    _check_together(settings, lambda name: origins.get(name, spell(name)))
    return settings


def environment_config_file(environment: Mapping[str, str] | None = None) -> str | None:
    """What ``YEOUL_CONFIG`` names; it is read where no flag names a file."""
    variables = os.environ if environment is None else environment
    return variables.get(CONFIG_FILE_VARIABLE) or None


def environment_api_key() -> str | None:
    """The first key of ``YEOUL_API_KEY``: what a client sends where no flag gives one."""
    field = setting_fields()["api_key"]
    if not (given := os.environ.get(field.variable)):
        return None
    keys = read_value(field, given, field.variable)
    return str(keys[0]) if isinstance(keys, list) and keys else None


def given_variables(environment: Mapping[str, str] | None = None) -> dict[str, bool]:
    """The names of our variables that are set, and whether each is a setting; their values are not told."""
    variables = os.environ if environment is None else environment
    known = {CONFIG_FILE_VARIABLE, *(field.variable for field in setting_fields().values())}
    return {name: name in known for name in sorted(variables) if name in known or _is_ours(name, variables[name])}


def steering_variables(environment: Mapping[str, str] | None = None) -> list[str]:
    """The names of the variables that are set and change what libraries below us do."""
    variables = os.environ if environment is None else environment
    return sorted(name for name in variables if name.startswith(_STEERING))


def _take(values: dict[str, object], origins: Origins, given: Mapping[str, object], spell: Callable[[str], str]) -> None:
    for name, value in given.items():
        if value is not None:
            origins[name] = spell(name)
            values[name] = read_value(setting_fields()[name], value, origins[name])
            if name in _KEYS:
                _check_key(name, values[name], origins[name])


def _check_key(name: str, given: object, origin: str) -> None:
    keys = given if isinstance(given, list) else [given]
    if not keys or not all(str(key).strip(" ,") for key in keys):
        raise ConfigError(
            f"{origin} is given and empty; expected a key (a secret that did not arrive?). "
            "Leave it out for a server without one",
            param=name,
        )


def _from_flags(flags: Mapping[str, object], spell: Callable[[str], str]) -> Mapping[str, object]:
    fields = setting_fields()
    for name in flags:
        if name not in fields:
            raise ConfigError(f"{spell(name)} is no setting.{nearest(spell(name), map(spell, fields))}", param=name)
    return flags


def _from_environment(variables: Mapping[str, str]) -> dict[str, object]:
    """The settings among the variables. An empty one counts as not set, as a compose file leaves it; a key does not."""
    by_variable = {field.variable: name for name, field in setting_fields().items()}
    found: dict[str, object] = {}
    for variable, value in variables.items():
        if not _is_ours(variable, value):
            continue
        if variable not in by_variable:
            _pass_over(variable, [*by_variable, CONFIG_FILE_VARIABLE])
        elif value or by_variable[variable] in _KEYS:
            found[by_variable[variable]] = value
    return found


def _is_ours(variable: str, value: str) -> bool:
    return (
        variable.startswith(ENVIRONMENT_PREFIX) and variable != CONFIG_FILE_VARIABLE and not _is_service_link(variable, value)
    )


def _pass_over(variable: str, known: list[str]) -> None:
    """Images, charts and installers set names with our prefix for themselves. What looks like a key is a key misspelt.

    Raises:
        ConfigError: it looks like a key, and the server would be open without it.
    """
    if "APIKEY" in variable.replace("_", ""):
        key = setting_fields()["api_key"].variable
        raise ConfigError(f"the environment variable {variable} is no setting. Did you mean {key}?")
    logger.warning("the environment variable %s is no setting and changes nothing.%s", variable, nearest(variable, known))


def _is_service_link(variable: str, value: str) -> bool:
    return _SERVICE_LINK.fullmatch(variable) is not None or (variable.endswith("_PORT") and value.startswith("tcp://"))


def _add_keys_of_file(values: dict[str, object], origins: Origins) -> None:
    """The lines of ``api_key_file`` are keys like those of ``api_key``, which every user of this machine sees in ``ps``."""
    if (path := values.get("api_key_file")) is None:
        return
    origin = f"{origins['api_key_file']} {path}"
    try:
        with open(os.path.expanduser(str(path)), encoding="utf-8") as file:
            keys = [line.strip() for line in file if line.strip()]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{origin} cannot be read ({reason}); expected a key a line", param="api_key_file") from None
    if not keys:
        raise ConfigError(f"{origin} is empty; expected a key a line", param="api_key_file")
    given = values.get("api_key", [])
    assert isinstance(given, list)
    values["api_key"] = [*given, *keys]


def _assemble(values: Mapping[str, object]) -> Settings:
    groups: dict[str, dict[str, object]] = {}
    for name, value in values.items():
        groups.setdefault(setting_fields()[name].group, {})[name] = value
    # The values are checked already; convert checks them against the structs once more, and a difference is a bug.
    return msgspec.convert(groups, Settings)


def _check_together(settings: Settings, written: Callable[[str], str]) -> None:
    if settings.model.model == "fake" and settings.model.device == "cuda":
        raise ConfigError(
            f"{written('device')} is cuda, and the fake model computes on no device; leave it out, or choose another model",
            param="device",
        )
    address, key_file = settings.transport.engine_address, settings.transport.engine_key_file
    if settings.server.headless and address is None:
        raise ConfigError(
            f"{written('headless')} runs an engine that web processes join over the network; "
            f"give {written('engine_address')} as well, such as tcp://0.0.0.0:5555",
            param="engine_address",
        )
    if address is not None:
        _check_address(address, written("engine_address"))
    if address is not None and key_file is None:
        raise ConfigError(
            f"a tcp link is never open: give {written('engine_key_file')}, a file with its keys, on both sides "
            "(it is made where it does not exist)",
            param="engine_key_file",
        )
    _check_pipeline(settings, written)
    if (num_engines := settings.parallel.data_parallel_size) > 1 and address is not None:
        raise ConfigError(
            f"{written('data_parallel_size')} is {num_engines}: so many engines are started on this machine, by the process"
            f" that serves; with {written('engine_address')} there is one engine, elsewhere. Leave one of the two out",
            param="data_parallel_size",
        )
    _check_prefill_engines(settings, written)
    _check_kv_events(settings, written)
    cache = settings.cache
    if cache.kv_disk_bytes is not None and cache.kv_memory_bytes is not None:
        raise ConfigError(
            f"{written('kv_memory_bytes')} and {written('kv_disk_bytes')} are two places for the same blocks; "
            "give one of them: what lies on the disk is in memory as well, as far as there is room",
            param="kv_memory_bytes",
        )
    _check_pages(settings.server, written)
    server = settings.server
    if server.max_total_body_bytes < server.max_body_bytes:
        raise ConfigError(
            f"{written('max_total_body_bytes')} is {server.max_total_body_bytes}; expected at least the"
            f" {server.max_body_bytes} bytes that one body may have ({written('max_body_bytes')})",
            param="max_total_body_bytes",
        )
    _check_tls(server, written)


def _check_pipeline(settings: Settings, written: Callable[[str], str]) -> None:
    """What stages of a pipeline do without."""
    if (size := settings.parallel.pipeline_parallel_size) == 1:
        return
    if settings.scheduler.async_scheduling:
        raise ConfigError(
            f"{written('async_scheduling')} hands out a second step before tokens are known, and with"
            f" {written('pipeline_parallel_size')} {size} there are {size} at a time, of different requests; leave it out",
            param="async_scheduling",
        )
    for name in ("kv_disk_bytes", "kv_memory_bytes"):
        if getattr(settings.cache, name) is not None:
            raise ConfigError(
                f"{written(name)} keeps blocks that all workers have equal parts of, and those of {size} pipeline stages"
                f" ({written('pipeline_parallel_size')}) have not; leave one of the two out",
                param=name,
            )


def _check_prefill_engines(settings: Settings, written: Callable[[str], str]) -> None:
    """Requests are handed on to other engines, through what these find on the disk."""
    parallel, name = settings.parallel, "num_prefill_engines"
    if parallel.num_prefill_engines == 0:
        return
    if parallel.num_prefill_engines >= parallel.data_parallel_size:
        raise ConfigError(
            f"{written(name)} is {parallel.num_prefill_engines}; expected fewer than the {parallel.data_parallel_size} "
            f"engines that {written('data_parallel_size')} starts: one at least has to go on with what they have computed",
            param=name,
        )
    if settings.cache.kv_disk_bytes is None or not settings.cache.enable_prefix_caching:
        raise ConfigError(
            f"{written(name)} hands requests from engine to engine through the blocks that they keep on the disk; "
            f"give {written('kv_disk_bytes')}, with {written('enable_prefix_caching')}, or leave it out",
            param=name,
        )


def _check_kv_events(settings: Settings, written: Callable[[str], str]) -> None:
    """What could be read, but of which nobody would ever hear anything."""
    origin = written("kv_events_config")
    if read_kv_events(settings.cache.kv_events_config, origin, settings.parallel.data_parallel_size) is None:
        return
    if not settings.cache.enable_prefix_caching:
        raise ConfigError(
            f"{origin} tells of known prefixes, and without {written('enable_prefix_caching')} there are none; leave one out",
            param="kv_events_config",
        )
    if len(settings.server.api_key) > 1:
        raise ConfigError(
            f"{origin} tells routers what all clients share, and with {len(settings.server.api_key)} API keys "
            f"({written('api_key')}) each key's prefixes are its own; give the router one key, or leave it out",
            param="kv_events_config",
        )


def _check_pages(server: ServerSettings, written: Callable[[str], str]) -> None:
    """What no browser would ever send as Origin or Host, so that it would silently allow nobody."""
    for origin in server.allowed_origins:
        if not _ORIGIN.fullmatch(origin):
            raise ConfigError(
                f"{written('allowed_origins')} is {origin!r}; expected an origin as browsers write it, such as "
                "https://chat.example.com or http://localhost:3000 (in small letters, no path), or * for every one",
                param="allowed_origins",
            )
    for host in server.allowed_hosts:
        if not _HOST.fullmatch(host):
            raise ConfigError(
                f"{written('allowed_hosts')} is {host!r}; expected a name without scheme and port, such as llm.example.com, "
                "or * for every one",
                param="allowed_hosts",
            )


def _check_tls(server: ServerSettings, written: Callable[[str], str]) -> None:
    """What would silently do nothing, or trust nobody; ``web_process.http.tls`` reads the files."""
    asks = server.ssl_cert_reqs > 0
    given = {"ssl_keyfile": server.ssl_keyfile, "ssl_ca_certs": server.ssl_ca_certs, "ssl_cert_reqs": asks or None}
    alone = [name for name, value in given.items() if value is not None] if server.ssl_certfile is None else []
    if alone:
        raise ConfigError(
            f"{written(alone[0])} does nothing without a certificate; give {written('ssl_certfile')} as well", param=alone[0]
        )
    if asks and server.ssl_ca_certs is None:
        raise ConfigError(
            f"{written('ssl_cert_reqs')} {server.ssl_cert_reqs} checks the certificates of clients; "
            f"give {written('ssl_ca_certs')} as well, a file with the authorities to trust",
            param="ssl_cert_reqs",
        )
    if server.ssl_ca_certs is not None and not asks:
        raise ConfigError(
            f"{written('ssl_ca_certs')} is for certificates of clients, and {written('ssl_cert_reqs')} 0 asks for none; "
            f"give {written('ssl_cert_reqs')} 2 to require them, or leave {written('ssl_ca_certs')} out",
            param="ssl_ca_certs",
        )


def _check_address(address: str, origin: str) -> None:
    try:
        parts = urlsplit(address)
        valid = parts.scheme == "tcp" and bool(parts.hostname) and 0 < (parts.port or 0) < 65535 and not parts.path
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(
            f"{origin} is {address!r}; expected tcp://host:port with a port from 1 to 65534 (the next one is taken too)",
            param="engine_address",
        )
