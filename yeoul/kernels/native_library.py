"""The native kernels as Python calls them: finding the library, one OpenMP runtime, the best instruction set.

Knows nothing of any operation: each operation's folder asks for its functions by name and types. The library holds every
function once for each instruction set (``pack_matrix_avx512``); none links to an OpenMP runtime, all use torch's.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import os
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

import yeoul.kernels
from yeoul.errors import MachineError

_FILE_NAME = "libyeoul_kernels.so"


class InstructionSet(enum.StrEnum):
    """What kernels are compiled for, from the plainest to the best."""

    PORTABLE = "portable"
    AVX2 = "avx2"
    AVX512 = "avx512"
    AVX512_BF16 = "avx512bf16"


class NumberType(enum.IntEnum):
    """How a kernel is told the type of a tensor; the same as in ``native/numbers.h``."""

    FLOAT32 = 0
    BFLOAT16 = 1
    FLOAT16 = 2


_NUMBER_TYPES = {
    torch.float32: NumberType.FLOAT32,
    torch.bfloat16: NumberType.BFLOAT16,
    torch.float16: NumberType.FLOAT16,
}
_chosen: list[InstructionSet] = []


class NativeFunction:
    """A plain function of the library, in the instruction set that is in use at each call; see also NativeOperation."""

    def __init__(self, name: str, *argument_types: Any, result: Any = None) -> None:
        self._name = name
        self._argument_types = argument_types
        self._result = result
        self._found: dict[InstructionSet, Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Calls it without the interpreter lock; tensors are handed over as ``tensor.data_ptr()``."""
        instruction_set = instruction_set_in_use()
        function = self._found.get(instruction_set)
        if function is None:
            function = self._found[instruction_set] = self._look_up(instruction_set)
        return function(*arguments)

    def _look_up(self, instruction_set: InstructionSet) -> Callable[..., Any]:
        try:
            function = getattr(_library(), f"{self._name}_{instruction_set}")
        except AttributeError as error:
            raise _outdated(error) from error
        function.argtypes = self._argument_types
        function.restype = self._result
        return cast("Callable[..., Any]", function)


def symbol_address(name: str) -> int:
    """Where the library keeps the variable ``name``. Raises MachineError where it has none, as other versions may."""
    try:
        return ctypes.addressof(ctypes.c_char.in_dll(_library(), name))
    except ValueError as error:
        raise _outdated(error) from error


def number_type(dtype: torch.dtype) -> NumberType:
    """What kernels call a floating type; raises KeyError for any other."""
    return _NUMBER_TYPES[dtype]


def address(tensor: Tensor | None) -> int | None:
    """Where a contiguous tensor lies; None is a null pointer."""
    if tensor is None:
        return None
    assert tensor.is_contiguous(), "kernels take contiguous tensors"
    return tensor.data_ptr()


@functools.cache
def instruction_sets() -> tuple[InstructionSet, ...]:
    """Those that were compiled and that this processor has, the best last."""
    library = _library()
    names = [(name, getattr(library, f"is_supported_{name}", None)) for name in InstructionSet]
    return tuple(name for name, is_supported in names if is_supported is not None and is_supported())


def instruction_set_in_use() -> InstructionSet:
    """The best, unless ``using`` says another."""
    return _chosen[-1] if _chosen else instruction_sets()[-1]


@contextmanager
def using(instruction_set: InstructionSet) -> Iterator[None]:
    """Compute with another set than the best, in the whole process: for tests and benchmarks."""
    assert instruction_set in instruction_sets(), f"this processor has no {instruction_set}"
    _chosen.append(instruction_set)
    try:
        yield
    finally:
        _chosen.pop()


@functools.cache
def _library() -> ctypes.CDLL:
    """The library, loaded once a process.

    Raises:
        MachineError: the library was not built, or not for this machine.
    """
    # A wheel puts it beside this file; an editable install leaves the sources there and puts it into the environment.
    folders = [*yeoul.kernels.__path__, os.path.join(sysconfig.get_path("platlib"), "yeoul", "kernels")]
    candidates = list(dict.fromkeys(os.path.join(folder, _FILE_NAME) for folder in folders))
    _bind_openmp()
    for path in candidates:
        if os.path.exists(path):
            try:
                return ctypes.CDLL(path)
            except OSError as error:
                raise MachineError(f"cannot load {path}: {error}; install Yeoul again on this machine") from error
    raise MachineError(f"the native kernels are not built: expected one of {candidates}; run `make install`")


def _outdated(error: Exception) -> MachineError:
    return MachineError(f"the native kernels are of another version of Yeoul ({error}): run `make install`")


def _bind_openmp() -> None:
    """Makes the OpenMP runtime that torch computes with visible to the library, or the system's where torch has none."""
    ctypes.CDLL(openmp_runtime() or "libgomp.so.1", mode=ctypes.RTLD_GLOBAL)


def openmp_runtime() -> str | None:
    """The file of the OpenMP runtime that torch is linked to: another one in this process would not know torch's threads."""
    torch_library = ctypes.CDLL(torch._C.__file__)
    try:
        place = ctypes.cast(torch_library.omp_get_max_threads, ctypes.c_void_p).value or 0
    except AttributeError:
        return None
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(address, 16) for address in line.split(maxsplit=1)[0].split("-"))
        if start <= place < end:
            return line.split(maxsplit=5)[5]
    return None
