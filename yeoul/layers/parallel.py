"""TensorParallel: the ranks that share a model and the two exchanges that they need; knows nothing of weights or requests.

Built by the worker, handed to ``models.loading``, used by the layers. Everything that crosses is a plain tensor.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import struct
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from yeoul.errors import TransportError
from yeoul.kernels.exchange.native import SharedExchange
from yeoul.kernels.exchange.reference import sum_parts

STORE_NAME = "tensor_parallel_store"
EXCHANGE_TIMEOUT_SECONDS = 600.0
LOOPBACK = "lo"
_SIOCGIFADDR = 0x8915


class Meeting(NamedTuple):
    """Where ranks on several hosts find each other: a store of torch's, and the address by which the others reach this one.

    Whoever may use the store is its own matter. What gloo and NCCL exchange afterwards knows no keys, and belongs into a
    network of its own: whoever can connect to a rank there could read it, or take part.
    """

    own_address: str
    store: Any


class TensorParallel:
    """This process's place among the ranks. One rank alone needs nobody, and its exchanges are the identity.

    Several ranks need shared memory (``shared``: on the CPUs of one host, where exchanges can be recorded too) or a process
    group of torch's. Both give the same bits.
    """

    def __init__(
        self, rank: int = 0, size: int = 1, group: dist.ProcessGroup | None = None, shared: SharedExchange | None = None
    ) -> None:
        if not 0 <= rank < size or (size > 1) != ((group is None) != (shared is None)):
            raise ValueError(
                f"expected 0 <= rank < size, and a group or shared memory for more than one, got rank {rank} of {size}"
            )
        self.rank = rank
        self.size = size
        self._group = group
        self._shared = shared

    def all_reduce(self, partial: Tensor) -> Tensor:
        """Add the ranks' ``partial`` sums in rank order, in float32, so that every rank has the same bits.

        Args:
            partial: of the same shape and floating type on every rank.

        Returns:
            The sum, in the type of ``partial``.
        """
        if self.size == 1:
            return partial
        if self._shared is not None:
            return self._shared.sum(partial)
        return sum_parts(self._exchange(partial))

    def all_gather(self, part: Tensor, sizes: list[int]) -> Tensor:
        """Join the ranks' columns in rank order.

        Args:
            part: ``[num_rows, sizes[rank]]``.
            sizes: the number of columns of each rank; they may differ.

        Returns:
            ``[num_rows, sum(sizes)]``, the same on every rank.
        """
        if self.size == 1:
            return part
        if self._shared is not None:
            return self._shared.join(part, sizes)
        padded = torch.nn.functional.pad(part, (0, max(sizes) - part.shape[1]))
        parts = self._exchange(padded)
        return torch.cat([found[:, :size] for found, size in zip(parts, sizes, strict=True)], dim=1)

    def check(self) -> None:
        """To be called after recorded exchanges have run. Raises TransportError if another rank did not come in time."""
        if self._shared is not None:
            self._shared.check()

    def close(self) -> None:
        """Leave the process group, if there is one; nothing can be exchanged through it afterwards."""
        if self._group is not None:
            dist.destroy_process_group(self._group)
            self._group = None

    def _exchange(self, mine: Tensor) -> list[Tensor]:
        """Every rank's tensor, in rank order."""
        mine = mine.contiguous()
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(parts, mine, group=self._group)
        return parts


def create_tensor_parallel(
    rank: int,
    size: int,
    folder: str,
    *,
    device: torch.device | None = None,
    shared_fd: int | None = None,
    meeting: Meeting | None = None,
    stage: int = 0,
    timeout_seconds: float = EXCHANGE_TIMEOUT_SECONDS,
) -> TensorParallel:
    """Join the other ranks: through shared memory where the executor made some; else by gloo on the CPU, NCCL on a GPU.

    Without shared memory they find each other through a file, on loopback, or at a ``meeting``; and wait here until all
    ``size`` have come.

    Args:
        rank: this process's place, from 0.
        size: the number of ranks; 1 needs nothing and returns at once.
        folder: a private folder, the same for all ranks of a group and new for each group: the file of a group whose
            ranks were killed would mislead the next.
        device: where the ranks compute; None is the CPU.
        meeting: for ranks on several hosts.
        stage: of a pipeline, whose other stages are none of theirs.
        shared_fd: memory for ``SharedExchange``, for ranks on the CPUs of one host; closed here, whether it is used or not.
        timeout_seconds: how long to wait for the others, here and in each exchange.

    Raises:
        TransportError: the others did not come in time, or their exchange could not be set up; the cause is torch's.
    """
    if size == 1:
        return TensorParallel()
    on_gpu = device is not None and device.type == "cuda"
    if shared_fd is not None:
        shared = None if on_gpu else SharedExchange(shared_fd, rank, size, timeout_seconds)
        os.close(shared_fd)
        if shared is not None:
            return TensorParallel(rank, size, shared=shared)
    interface = LOOPBACK if meeting is None else interface_of(meeting.own_address)
    os.putenv("NCCL_SOCKET_IFNAME" if on_gpu else "GLOO_SOCKET_IFNAME", interface)  # no argument of torch's says it
    timeout = timedelta(seconds=timeout_seconds)
    try:
        store = dist.FileStore(str(Path(folder) / f"{STORE_NAME}_{stage}"), size) if meeting is None else meeting.store  # type: ignore[attr-defined]
        store.set_timeout(timeout)
        dist.init_process_group("nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=size, timeout=timeout)
    except RuntimeError as error:
        raise TransportError(f"tensor parallel rank {rank} of {size} could not join the others: {error}") from error
    group = dist.group.WORLD
    assert group is not None
    return TensorParallel(rank, size, group)


def interface_of(own_address: str) -> str:
    """The network interface that has this address of this host; raises TransportError where none has."""
    own = ipaddress.ip_address(own_address)
    for _, name in socket.if_nameindex():
        if own in _addresses_of(name):
            return name
    raise TransportError(f"this host has no network interface with its address {own}, by which others reach it")


def _addresses_of(interface: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The main address of each kind that an interface has."""
    found: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
            found.append(ipaddress.IPv4Address(answer[20:24]))
        except OSError:  # it has none of this kind
            pass
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        lines = []
    found += [ipaddress.IPv6Address(bytes.fromhex(line.split()[0])) for line in lines if line.split()[-1] == interface]
    return found
