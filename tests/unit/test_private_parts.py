"""The parts of libraries that are not theirs to promise: each is where we take it, within the versions that we allow."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Module, class (or none), and the names that we override, set or read; a name in parentheses is an attribute of instances.
PRIVATE_PARTS: dict[str, list[tuple[str, str | None, str]]] = {
    "yeoul/web_process/http/http_protocol.py": [
        ("uvicorn.protocols.http.httptools_impl", None, "STATUS_LINE"),
        (
            "uvicorn.protocols.http.httptools_impl",
            "HttpToolsProtocol",
            "connection_made connection_lost shutdown data_received on_message_begin on_url on_header on_headers_complete "
            "on_message_complete send_400_response pause_writing resume_writing timeout_keep_alive_handler "
            "_unset_keepalive_if_required _start_asgi_task (connections) (parser) (pipeline) (transport) (loop) (scheme) "
            "(url) (headers) (scope) (cycle) (timeout_keep_alive)",
        ),
        (
            "uvicorn.protocols.http.httptools_impl",
            "RequestResponseCycle",
            "send (scope) (disconnected) (message_event) (response_started) (response_complete) (chunked_encoding) "
            "(expected_content_length)",
        ),
        ("httptools", "HttpRequestParser", "feed_data get_method should_upgrade"),
    ],
    "yeoul/web_process/http_server.py": [
        (
            "uvicorn",
            "Server",
            "serve capture_signals main_loop on_tick (server_state) (config) (should_exit) (force_exit)",
        ),
        ("uvicorn.server", "ServerState", "(default_headers) (connections)"),
        ("uvicorn", "Config", "load (encoded_headers) (ssl) (timeout_graceful_shutdown)"),
    ],
    "yeoul/text/template_limits.py": [("jinja2.compiler", "CodeGenerator", "visit_Concat write visit")],
    "yeoul/text/template_sandbox.py": [
        ("jinja2.sandbox", "ImmutableSandboxedEnvironment", "call call_binop code_generator_class")
    ],
    "yeoul/cli/grouped_help.py": [("typer.core", "TyperCommand", "format_options get_params")],
    "yeoul/cli/main.py": [("typer", "BadParameter", "format_message")],
    "yeoul/engine_thread.py": [("threading", None, "_register_atexit")],
}

# Where the library's name differs from the module's.
PACKAGES = {
    "opentelemetry.exporter": "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "huggingface_hub": "huggingface-hub",
    "prometheus_client": "prometheus-client",
    "python_multipart": "python-multipart",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}

# The first names under which several packages put what they have. What ``opentelemetry-sdk`` is made of comes with it.
SHARED_BY_PACKAGES = {"opentelemetry"}
COMES_WITH_ANOTHER = {"opentelemetry.trace"}


def parts():
    for file, places in PRIVATE_PARTS.items():
        for module, owner, names in places:
            for name in names.split():
                yield pytest.param(file, module, owner, name, id=f"{module}.{owner}.{name}" if owner else f"{module}.{name}")


@pytest.mark.parametrize(("file", "module", "owner", "name"), list(parts()))
def test_a_private_part_is_where_we_take_it(file, module, owner, name):
    library = module.partition(".")[0]
    version = "of Python" if library in sys.stdlib_module_names else importlib.metadata.version(library)
    place: object = importlib.import_module(module)
    if owner is not None:
        place = getattr(place, owner, None)
    moved = f"{library} {version} has moved {owner or module}.{name}, which {file} needs; look there first"
    assert place is not None, moved
    plain = name.strip("()")
    if name == plain:
        assert hasattr(place, plain), moved
    else:  # made by the constructor or later, and so found in the source
        assert isinstance(place, type)
        sources = [inspect.getsource(kind) for kind in place.__mro__ if kind.__module__.partition(".")[0] == library]
        assert any(re.search(rf"\bself\.{plain}\b|^    {plain}\b", source, re.MULTILINE) for source in sources), moved


def test_the_files_that_need_private_parts_are_these():
    for file, places in PRIVATE_PARTS.items():
        source = (ROOT / file).read_text()
        for module, owner, names in places:
            assert module.partition(".")[0] in source, f"{file} no longer uses {module}"
            for name in names.split():
                used = name.strip("()") in source or (owner == "HttpToolsProtocol" and name == "(connections)")
                assert used or owner in ("CodeGenerator", "ServerState"), f"{file} no longer uses {owner}.{name}"


def requirements() -> dict[str, str]:
    """Package -> what is said of its versions."""
    found = {}
    for line in PROJECT["dependencies"]:
        match = re.fullmatch(r"([a-z0-9-]+)(\[[a-z]+\])?(.*)", line)
        assert match is not None, line
        assert match[2] is None, f"{line}: extras bring what nobody names"
        found[match[1]] = match[3]
    return found


def imported() -> set[str]:
    """The packages that the sources import, wherever in a file."""
    modules = {"yaml"}  # by importlib

    def add(module: str) -> None:
        parts = module.split(".")
        modules.add(".".join(parts[:2]) if parts[0] in SHARED_BY_PACKAGES else parts[0])

    for path in (ROOT / "yeoul").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    add(alias.name)
            elif isinstance(node, ast.ImportFrom) and node.module:
                add(node.module)
    return {
        PACKAGES.get(name, name) for name in modules - sys.stdlib_module_names - COMES_WITH_ANOTHER - {"yeoul", "__future__"}
    }


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    extras = {
        re.split(r"[<>=\[]", line)[0]
        for name, lines in PROJECT["optional-dependencies"].items()
        if name != "dev"
        for line in lines
    }
    assert imported() == set(requirements()) | extras


def test_a_library_whose_private_parts_we_use_has_an_upper_bound_and_it_holds_here():
    bounds = requirements()
    libraries = {module.partition(".")[0] for places in PRIVATE_PARTS.values() for module, _, _ in places}
    for library in sorted(libraries - sys.stdlib_module_names):
        match = re.search(r"<(\d+(?:\.\d+)*)", bounds[library])
        assert match is not None, f"{library} has no upper bound"
        newest = tuple(map(int, match[1].split(".")))
        found = tuple(map(int, re.findall(r"\d+", importlib.metadata.version(library))[: len(newest)]))
        assert found < newest, f"{library} {found} is newer than what is allowed, {match[0]}"
