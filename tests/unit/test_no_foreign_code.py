"""No bytes of another process, host or file are ever run: no pickle in any of its guises, no eval; reads sources only."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.unit.test_architecture import ROOT, SOURCES

# They unpickle, or make objects of whatever classes the bytes name.
LIBRARIES = {
    "pickle", "_pickle", "cPickle", "pickletools", "marshal", "shelve", "dbm", "dill", "cloudpickle", "joblib", "jsonpickle",
    "yaml", "ruamel", "copyreg", "codeop", "code", "multiprocessing", "multiprocess", "billiard", "xmlrpc", "Pyro4", "Pyro5",
    "rpyc", "pandas",
}  # fmt: skip
MODULES = ("torch.multiprocessing", "torch.package", "torch.distributed.rpc", "concurrent.futures.process", "logging.config")
NAMES = frozenset({"eval", "exec", "compile", "__import__", "execfile"})

# Methods and functions by the end of their names, whatever they are called on.
ENDINGS = (
    "_object", "_object_list",  # torch.distributed's collectives of anything that can be pickled
    "send_pyobj", "recv_pyobj",  # pyzmq's
    "jit.load", "hub.load", "export.load", "read_pickle", "to_pickle", "TCPStore", "HashStore",
    "os.system", "os.popen", "ProcessPoolExecutor",
)  # fmt: skip


def offences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and reason of everything in a source that could run what it did not write."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in _imported(node):
                if name.split(".")[0] in LIBRARIES or name.startswith(MODULES) or name.endswith(ENDINGS):
                    yield node.lineno, f"imports {name}"
        elif isinstance(node, ast.Attribute) and ast.unparse(node).endswith(ENDINGS):
            yield node.lineno, f"uses {ast.unparse(node)}"
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, reason) for reason in _wrong_call(node))


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    return [prefix + alias.name for alias in node.names]


def _wrong_call(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name.removeprefix("builtins.") in NAMES:
        yield f"calls {name}"
    if name == "torch.load" and options.get("weights_only") != "True":
        yield "calls torch.load without weights_only=True"
    if name.endswith("import_module") and call.args and _root_of(call.args[0]) in LIBRARIES - {"yaml"}:  # see yaml.load
        yield f"imports {_root_of(call.args[0])}"
    if name.endswith(("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all")):
        yield f"calls {name}, which makes objects; safe_load does not"
    if options.get("allow_pickle", "False") != "False":
        yield f"calls {name} with allow_pickle"
    if options.get("shell", "False") != "False":
        yield f"calls {name} with a shell"
    if options.get("trust_remote_code", "False") != "False":
        yield f"calls {name} with trust_remote_code"
    if name.endswith("init_process_group") and ("store" not in options or "init_method" in options or call.args[1:]):
        yield "lets the ranks of a group meet where torch does, which anybody can connect to"


def _root_of(argument: ast.expr) -> str:
    value = argument.value if isinstance(argument, ast.Constant) else ""
    return str(value).split(".")[0]


def test_nothing_runs_what_others_wrote():
    found = [
        f"{path.relative_to(ROOT)}:{line} {reason}"
        for path in SOURCES
        for line, reason in offences(ast.parse(path.read_text()))
    ]
    assert not found, "\n".join(found)


def test_the_ranks_of_a_group_meet_in_a_file_or_behind_keys():
    stores = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node.func)}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Store")
    ]
    assert stores == ["yeoul/layers/parallel.py: dist.FileStore", "yeoul/worker_process/meeting_store.py: MeetingStore"]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, marshal",
        "from pickle import loads",
        "from torch.multiprocessing import Queue",
        "import torch.multiprocessing as mp",
        "from multiprocessing.connection import Client",
        "def f():\n    import dill",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=chosen)",
        "dist.all_gather_object(out, value)",
        "dist.broadcast_object_list(values)",
        "from torch.distributed import scatter_object_list",
        "gather = dist.gather_object",
        "np.load(path, allow_pickle=True)",
        "socket.send_pyobj(value)",
        "eval(text)",
        "exec(text)",
        "builtins.exec(text)",
        "import yaml",
        "yaml.load(text)",
        "importlib.import_module('pickle')",
        "torch.jit.load(path)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "dist.init_process_group('gloo')",
        "dist.init_process_group('gloo', init_method='tcp://0.0.0.0:1')",
        "dist.TCPStore('0.0.0.0', 1)",
        "from concurrent.futures import ProcessPoolExecutor",
        "Model.from_pretrained(path, trust_remote_code=True)",
    ],
)
def test_each_way_would_be_found(source):
    assert list(offences(ast.parse(source)))


@pytest.mark.parametrize("source", ["torch.load(path, weights_only=True)", "re.compile(text)", "np.load(path)", "x.eval()"])
def test_what_is_harmless_is_not_reported(source):
    assert not list(offences(ast.parse(source)))
