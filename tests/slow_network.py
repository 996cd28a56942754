"""A bad network for 127.0.0.1: each packet is read from a tun device, and comes back late, after others, or never.

It needs no traffic control in the kernel, only a network namespace of its own (``unshare -n``), in which it is made.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from pathlib import Path

_TUNSETIFF = 0x400454CA
_IS_TUN_WITHOUT_HEADERS = 0x1001
_DEVICE = "slow"
_LARGEST_PACKET = 1500
_SETTINGS = Path("/proc/sys/net/ipv4/conf")
# Packets to 127.0.0.1 go to the device; what comes from there is for this host, though both ends are addresses of its own.
_ROUTES = (
    "link set lo up",
    f"link set {_DEVICE} up mtu {_LARGEST_PACKET}",
    f"route add 127.0.0.1 dev {_DEVICE} src 127.0.0.1 table 100",
    f"rule add pref 10 iif {_DEVICE} lookup local",
    "rule add pref 20 lookup 100",
    "rule add pref 30 lookup local",
    "rule del pref 0",
)


class SlowNetwork:
    """Made in the network namespace of this process, for as long as that lives. It is quick until ``begin``."""

    def __init__(self) -> None:
        self.num_lost = 0
        self._delay_seconds = self._jitter_seconds = self._loss = 0.0
        self._bytes_per_second = float("inf")
        self._is_cut = False
        self._draw = random.Random(1)
        self._device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self._device, _TUNSETIFF, struct.pack("16sH22x", _DEVICE.encode(), _IS_TUN_WITHOUT_HEADERS))
        for setting, value in (("route_localnet", "1"), ("accept_local", "1"), ("rp_filter", "0")):
            for name in (_DEVICE, "all"):
                (_SETTINGS / name / setting).write_text(value)
        for arguments in _ROUTES:
            subprocess.run(["ip", *arguments.split()], check=True)
        threading.Thread(target=self._carry, name="SlowNetwork", daemon=True).start()

    def begin(self, delay_seconds: float, jitter_seconds: float, loss: float, bytes_per_second: float) -> None:
        """From now on each packet takes about that long, beside its share of the bandwidth, and some are lost."""
        self._delay_seconds, self._jitter_seconds, self._loss = delay_seconds, jitter_seconds, loss
        self._bytes_per_second = bytes_per_second

    def stall(self, seconds: float) -> None:
        """For that long nothing arrives, as with a cable that is out; then it is mended."""
        self._is_cut = True
        time.sleep(seconds)
        self._is_cut = False

    def _carry(self) -> None:
        """Packets from the device and back to it, each at its time; one that is late is overtaken."""
        due: list[tuple[float, int, bytes]] = []
        number = 0
        is_free_at = 0.0
        while True:
            until = max(0.0, due[0][0] - time.monotonic()) if due else None
            if select.select([self._device], [], [], until)[0]:
                packet = os.read(self._device, _LARGEST_PACKET)
                if self._is_cut or self._draw.random() < self._loss:
                    self.num_lost += 1
                else:
                    number += 1
                    is_free_at = max(is_free_at, time.monotonic()) + len(packet) / self._bytes_per_second
                    lateness = self._delay_seconds + self._jitter_seconds * self._draw.uniform(-1.0, 1.0)
                    heapq.heappush(due, (is_free_at + lateness, number, packet))
            while due and due[0][0] <= time.monotonic():
                os.write(self._device, heapq.heappop(due)[2])
