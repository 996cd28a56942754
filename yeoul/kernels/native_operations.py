"""Native operations as Python runs them: at once, or recorded into a list that runs as one call for any number of rows.

Knows nothing of any operation: each one's ``native.py`` fills a structure and calls its ``NativeOperation``. What a CUDA
graph is to a GPU, a ``Recording`` is to a CPU: layers are walked through in Python once, and afterwards their operations
run one after the other on a team of threads that is woken once. Called by ``models.recorded_layers``.
"""

from __future__ import annotations

import bisect
import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C import DisableTorchFunction
from torch.overrides import TorchFunctionMode

from yeoul.errors import ConfigError
from yeoul.kernels.native.calls import Call
from yeoul.kernels.native_library import NativeFunction, instruction_set_in_use, symbol_address

_ALIGNMENT = 64
_run_operations = NativeFunction("run_operations", ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_LOOKS = {"__get__", "__len__", "data_ptr", "dim", "is_contiguous", "numel", "size", "stride", "untyped_storage"}
_VIEWS = {"__getitem__", "contiguous", "flatten", "view"}
_recordings: list[Recording] = []


class NotRecordableError(Exception):
    """What was to be recorded computes with something else than native operations."""


class _OperationKind(ctypes.Structure):
    """The same as OperationKind in ``native/operation.h``."""

    _fields_ = (("plan", ctypes.c_void_p), ("run", ctypes.c_void_p), ("call_bytes", ctypes.c_int64))


class _Operation(ctypes.Structure):
    """The same as Operation in ``native/operation.h``."""

    _fields_ = (("kind", ctypes.c_void_p), ("call", ctypes.c_void_p))


class NativeOperation:
    """An operation of the library, in the instruction set that is in use at each call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._kind = functools.cache(_kind_address)

    def __call__(self, call: Call, inner: Call | None = None) -> None:
        """Runs it, without the interpreter lock; or records it while there is a recording.

        Args:
            call: its structure.
            inner: a structure that it points to.
        """
        kind = self._kind(f"{self._name}_{instruction_set_in_use()}", type(call))
        if _recordings:
            _recordings[-1].add(kind, call, inner)
            return
        operation = _Operation(kind, call.address)
        _run_operations(ctypes.addressof(operation), 1, 0)


def _kind_address(name: str, call_type: type[Call]) -> int:
    address = symbol_address(name)
    if _OperationKind.from_address(address).call_bytes != ctypes.sizeof(call_type):
        raise ConfigError(f"the native kernels are not of this version (see {name}): run `make install`")
    return address


def new_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Memory for the result of an operation; the first dimension is its rows."""
    return _recordings[-1].new_tensor(shape, dtype) if _recordings else torch.empty(shape, dtype=dtype)


class _Recorded(NamedTuple):
    """An operation, its structure, and one that it points to."""

    kind: int
    call: Call
    inner: Call | None


@dataclass
class _Result:
    """A tensor that recorded operations write and read; where its rows lie is decided once all its uses are known."""

    tensor: Tensor
    row_bytes: int
    first_use: int = -1
    last_use: int = -1
    offset: int = 0

    def size(self, num_rows: int) -> int:
        """Its bytes for so many rows."""
        return -(-self.row_bytes * num_rows // _ALIGNMENT) * _ALIGNMENT


class Recording:
    """Operations that were recorded once, on a few rows, and can run on any number up to a maximum.

    Results that are not alive at the same time share their memory.
    """

    def __init__(self) -> None:
        self._recorded: list[_Recorded] = []
        self._results: list[_Result] = []
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._operations: ctypes.Array[_Operation] = (_Operation * 0)()

    def __len__(self) -> int:
        """How many operations it has."""
        return len(self._recorded)

    def new_tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory for a result, as long as the recording is made."""
        with DisableTorchFunction():
            tensor = torch.empty(shape, dtype=dtype)
        self._results.append(_Result(tensor, tensor.nbytes // shape[0]))
        return tensor

    def add(self, kind: int, call: Call, inner: Call | None = None) -> None:
        """Takes an operation and its structures, which stay the recording's."""
        self._recorded.append(_Recorded(kind, call, inner))

    def finish(self, output: Tensor, max_num_rows: int) -> Tensor:
        """Finds memory for all results.

        Args:
            output: the result that outlives a run.
            max_num_rows: the most that ``run`` will be asked for.

        Returns:
            where ``output`` will be after each run: ``[max_num_rows, ...]`` of its type.
        """
        self._note_uses(output)
        self._lay_out(max_num_rows)
        num_bytes = max((result.offset + result.size(max_num_rows) for result in self._results), default=0)
        self._memory = torch.empty(num_bytes + _ALIGNMENT, dtype=torch.uint8)
        skipped = -self._memory.data_ptr() % _ALIGNMENT
        for _, call, field, result, inside in self._uses():
            setattr(call, field, self._memory.data_ptr() + skipped + result.offset + inside)
        kept = self._result_at(output.data_ptr())
        assert kept is not None, "the output is a result of the recorded operations"
        first = skipped + kept.offset
        where = self._memory[first : first + kept.row_bytes * max_num_rows].view(output.dtype).view(-1, *output.shape[1:])
        self._operations = (_Operation * len(self._recorded))(
            *(_Operation(recorded.kind, recorded.call.address) for recorded in self._recorded)
        )
        self._results = []
        return where

    def run(self, num_rows: int) -> None:
        """Computes all of it for the first ``num_rows`` rows of its inputs."""
        _run_operations(ctypes.addressof(self._operations), len(self._operations), num_rows)

    def _note_uses(self, output: Tensor) -> None:
        self._results.sort(key=lambda result: result.tensor.data_ptr())
        for place, _, _, result, _ in self._uses():
            result.first_use = place if result.first_use < 0 else result.first_use
            result.last_use = place
        kept = self._result_at(output.data_ptr())
        if kept is not None:
            kept.last_use = len(self._recorded)

    def _lay_out(self, num_rows: int) -> None:
        alive: list[_Result] = []
        for result in sorted(self._results, key=lambda result: result.first_use):
            alive = sorted((other for other in alive if other.last_use >= result.first_use), key=lambda other: other.offset)
            for other in alive:
                if result.offset + result.size(num_rows) <= other.offset:
                    break
                result.offset = other.offset + other.size(num_rows)
            alive.append(result)

    def _uses(self) -> Iterator[tuple[int, Call, str, _Result, int]]:
        """Every field that is the address of a result: the place in the list, the structure, the field, the result, and how
        far into a row."""
        for place, recorded in enumerate(self._recorded):
            for call in filter(None, (recorded.inner, recorded.call)):
                for field, kind, *_ in call._fields_:
                    address = getattr(call, field)
                    if kind is ctypes.c_void_p and address and (result := self._result_at(address)) is not None:
                        yield place, call, field, result, address - result.tensor.data_ptr()

    def _result_at(self, address: int) -> _Result | None:
        index = bisect.bisect_right(self._results, address, key=lambda result: result.tensor.data_ptr()) - 1
        if index < 0 or address >= self._results[index].tensor.data_ptr() + self._results[index].tensor.nbytes:
            return None
        return self._results[index]


@contextmanager
def record() -> Iterator[Recording]:
    """Records native operations instead of running them.

    Raises:
        NotRecordableError: torch is asked to compute something meanwhile.
    """
    recording = Recording()
    _recordings.append(recording)
    try:
        with _OnlyViews():
            yield recording
    finally:
        _recordings.pop()


class _OnlyViews(TorchFunctionMode):
    """Torch may look at tensors and make views; what it computes now would be missing in every run of the recording."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        name = function.__name__
        if name not in _LOOKS and name not in _VIEWS:
            raise NotRecordableError(f"torch's {name} is not a native operation")
        result = function(*arguments, **(options or {}))
        if name in _VIEWS and result.untyped_storage().data_ptr() != arguments[0].untyped_storage().data_ptr():
            raise NotRecordableError(f"torch's {name} copied, which is not a native operation")
        return result
