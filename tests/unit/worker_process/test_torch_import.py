"""torch, imported the worker's way, computes what it always does, and brings what was deferred when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from yeoul.worker_process.torch_import import DEFERRED

HAVE_RUN = f"print([len(vars(sys.modules[name])) > 20 for name in {DEFERRED}])\n"


def run(script: str) -> str:
    """What a fresh interpreter prints that imported torch as a worker does."""
    prelude = "import sys; from yeoul.worker_process.torch_import import import_torch; import_torch(); import torch\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", prelude + script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_deferred_modules_are_there_but_have_not_run():
    assert run(HAVE_RUN + "print(torch.arange(4).sum().item())") == "[False, False]\n6"


def test_nothing_of_the_way_to_import_is_left():
    assert run("print([finder for finder in sys.meta_path if 'Deferring' in str(finder)])") == "[]"


def test_inspect_looks_through_all_modules_without_running_them():
    script = "import inspect; inspect.getmodule(sys._getframe()); print(hasattr(torch._meta_registrations, '__wrapped__'))\n"
    assert run(script + HAVE_RUN) == "False\n[False, False]"


@pytest.mark.parametrize(("name", "attribute"), list(zip(DEFERRED, ["activate_meta", "lib_impl"], strict=True)))
def test_a_deferred_module_runs_when_it_is_used(name, attribute):
    script = f"from {name} import {attribute}; print({attribute} is sys.modules[{name!r}].{attribute})"
    assert run(script) == "True"


def test_shapes_without_data_work_once_they_are_asked_for():
    script = (
        "from torch._meta_registrations import activate_meta\n"
        "q = torch.empty(1, 2, 3, 8, device='meta')\n"
        "print(torch.nn.functional.scaled_dot_product_attention(q, q, q).shape)"
    )
    assert run(script) == "torch.Size([1, 2, 3, 8])"


def test_a_second_import_is_none():
    assert run("before = len(sys.modules); import_torch(); print(len(sys.modules) - before)") == "0"


def test_all_that_a_worker_imports_leaves_them_alone():
    assert run("from yeoul.worker_process.devices import choose_device\n" + HAVE_RUN) == "[False, False]"
