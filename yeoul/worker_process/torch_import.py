"""Imports torch in two thirds of the time: what only its compiler and tracers need is loaded when somebody first asks for it.

Knows nothing of models. The worker calls it before anything else imports torch. Whoever brings ``torch.compile`` or tensors
without data (device ``meta``) into a worker takes the first name of ``DEFERRED`` out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

DEFERRED = ("torch._meta_registrations", "torch.distributed._meta_registrations")
"""How every operator computes shapes without data: thousands of registrations, which no forward pass uses."""


class DeferredLoader(SourceFileLoader):
    """Runs the module at the first use of a name in it.

    Not ``importlib.util.LazyLoader``: that one also runs it where ``inspect`` looks through all modules for a file's.
    """

    def exec_module(self, module: ModuleType) -> None:
        """Leaves word how the module is run."""

        def run_and_get(name: str) -> object:
            if name.startswith("__"):  # what the import system and inspect ask of every module
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            vars(module).pop("__getattr__", None)
            SourceFileLoader.exec_module(self, module)
            return getattr(module, name)

        vars(module)["__getattr__"] = run_and_get


class DeferringFinder:
    """Finds the deferred modules where they are, and hands them to another loader."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """See ``importlib.abc.MetaPathFinder.find_spec``."""
        spec = PathFinder.find_spec(name, path, target) if name in DEFERRED else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = DeferredLoader(spec.loader.name, spec.loader.path)
        return spec


def import_torch() -> None:
    """Imports torch, if it is not imported yet. Where a version has no such modules this is a plain import."""
    finder = DeferringFinder()
    sys.meta_path.insert(0, finder)
    try:
        import torch  # noqa: F401
    finally:
        sys.meta_path.remove(finder)
