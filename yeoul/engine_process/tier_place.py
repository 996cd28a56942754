"""TierPlace: where the tier below the cache lies, and what an earlier process has left there; knows no step and no request.

EngineCoreProc opens it once its workers have told what their blocks depend on, and keeps it while workers come and go. On a
disk it is a folder of this user alone; each engine has files of its own there, that it holds by ``flock``. In memory it is
files without a name, that workers open through EngineCore's descriptors. Whatever is wrong with it, the engine does without.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from yeoul.config.parts import EngineSettings
from yeoul.errors import MachineError
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.kv_cache.tier_file import (
    PAGE_BYTES,
    Entry,
    TierStem,
    begin_entries,
    empty_entries,
    entries_bytes_of,
    read_entries,
    slot_bytes_of,
)
from yeoul.kv_cache.tier_index import TierIndex
from yeoul.kv_cache.tier_neighbours import TierNeighbours
from yeoul.messages.reports import WorkerReady
from yeoul.messages.steps import TierFiles
from yeoul.scheduler.tier_moves import TierMoves

logger = logging.getLogger(__name__)

_MAX_NUM_FILES = 64  # of engines that run at the same time with the same model
_MIN_NUM_SLOTS = 16
_BYTES_ON_THE_WAY = 64 << 20  # copies of blocks that wait to be written
_LEAST_ON_THE_WAY, _MOST_ON_THE_WAY = 4, 1024
_MEMORY_NAME = "yeoul-kv-tier"


@dataclass(frozen=True, slots=True)
class TierPlace:
    """``files`` for the workers, and the ``index`` of what lies in them; ``descriptors`` hold it.

    ``neighbours`` are other engines, of this server and of earlier ones, that keep theirs beside it.
    Without ``files`` there is no tier.
    """

    key: bytes | None = None
    owner: str = ""
    files: TierFiles | None = None
    index: TierIndex = field(default_factory=lambda: TierIndex(0))
    descriptors: list[int] = field(default_factory=list)
    neighbours: TierNeighbours | None = None

    def opened(self, settings: EngineSettings, workers: list[WorkerReady]) -> TierPlace:
        """This, or where there is none yet what ``open_tier`` opens for these workers."""
        return open_tier(settings, workers) if self.files is None else self

    def moves(self, cache: KVCacheManager) -> TierMoves | None:
        """Between ``cache`` and this."""
        if self.files is None:
            return None
        return TierMoves(self.index, cache, len(self.files.slot_paths), self.files.max_num_stores, self.neighbours)

    def for_workers(self, workers: list[WorkerReady]) -> TierPlace:
        """This; or ``NOWHERE``, which the log tells, where they may compute other blocks than those that are kept here."""
        if self.files is None or key_of(workers, self.owner) == self.key:
            return self
        logger.warning("blocks of the cache are kept no longer: the model's files were written to, or moved, since the start")
        self.close()
        return NOWHERE

    def close(self) -> None:
        """Lets go of it; what is on a disk stays there."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        if self.neighbours is not None:
            self.neighbours.close()


NOWHERE = TierPlace()


def open_tier(settings: EngineSettings, workers: list[WorkerReady]) -> TierPlace:
    """``NOWHERE`` where none is wanted, or where it cannot be had, which the log tells.

    Raises:
        MachineError: it was asked for, and these workers' blocks cannot be kept.
    """
    cache = settings.cache
    if not cache.has_tier:
        return NOWHERE
    key, block_bytes, num_engines = key_of(workers, settings.tier_owner), workers[0].block_bytes, settings.place.count
    if key is None:
        raise MachineError(
            "blocks of the KV cache can be kept (--kv-disk-bytes, --kv-memory-bytes) only of a model on a CPU, whose files "
            "have not been written in the last seconds; leave them out, or start again"
        )
    try:
        if cache.kv_disk_bytes is not None:
            place = _open_on_disk(settings.tier_folder, key, block_bytes, len(workers), cache.kv_disk_bytes, num_engines)
        else:
            place = _open_in_memory(key, block_bytes, len(workers), (cache.kv_memory_bytes or 0) // num_engines)
        return NOWHERE if place is NOWHERE else replace(place, owner=settings.tier_owner)
    except OSError as error:
        logger.warning("no blocks of the cache are kept: %s", f"{error.strerror}: {error.filename or settings.tier_folder}")
        return NOWHERE


def key_of(workers: list[WorkerReady], owner: str = "") -> bytes | None:
    """What the bytes of a block depend on beside its tokens and the rank, and whose they are; None: they cannot be kept."""
    keys = {(worker.cache_key, worker.block_bytes) for worker in workers}
    if len(keys) > 1 or not workers[0].cache_key:
        return None
    return hashlib.sha256(f"{workers[0].cache_key} {workers[0].block_bytes} of {len(workers)} {owner}".encode()).digest()


def _open_on_disk(
    folder: str, key: bytes, block_bytes: int, num_ranks: int, max_bytes: int, num_engines: int = 1
) -> TierPlace:
    """Engines of one server have equal parts of what others' files leave of ``max_bytes``, and the next start finds them."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    status = os.stat(folder)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        logger.warning(
            "no blocks of the cache are kept: %s should be a folder of user %d with mode 700; it is of user %d, mode %o",
            folder,
            os.geteuid(),
            status.st_uid,
            mode,
        )
        return NOWHERE
    with contextlib.ExitStack() as opened:
        name = key.hex()[:24]
        with _alone_in(folder):
            held = _hold_stem(folder, name)
            if held is None:
                logger.warning("no blocks of the cache are kept: %d engines use %s", _MAX_NUM_FILES, folder)
                return NOWHERE
            stem, lock_fd = held
            opened.callback(os.close, lock_fd)
            own_stems = {stem, *(_stem_of(folder, name, number) for number in range(num_engines))}
            num_bytes_of_others = _sweep(folder, own_stems, max_bytes // 2)
            others = sorted((own_stems | _stems_of(folder, name)) - {stem})
        num_slots = _num_slots_in((max_bytes - num_bytes_of_others) // num_engines, block_bytes, num_ranks)
        if num_slots < _MIN_NUM_SLOTS:
            logger.warning("no blocks of the cache are kept: %d bytes of disk have no room for any", max_bytes)
            return NOWHERE
        own = TierStem(stem, num_ranks)
        slots_paths, entries_paths = (
            [path_of(rank) for rank in range(num_ranks)] for path_of in (own.slots_path, own.entries_path)
        )

        def open_file(path: str) -> int:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            opened.callback(os.close, descriptor)
            return descriptor

        entries_fds = [open_file(path) for path in entries_paths]
        slots_fds = [open_file(path) for path in slots_paths]
        entries = _read_all(entries_fds, key, block_bytes, num_slots)
        _fit(entries_fds, slots_fds, entries, key, block_bytes, num_slots)
        index = TierIndex(num_slots, entries)
        files = TierFiles(slots_paths, entries_paths, _num_on_the_way(block_bytes))
        neighbours = None
        if others:
            stems = [TierStem(other, num_ranks) for other in others]
            throw_away = partial(_throw_away, folder, stems, key, block_bytes)
            neighbours = TierNeighbours(stems, key, block_bytes, throw_away=throw_away)
            neighbours.look(waits=True)  # later looks find what has changed
        logger.info("%d blocks of the cache are known from %s, which has room for %d", len(index), folder, num_slots)
        opened.pop_all()
        return TierPlace(key, "", files, index, [lock_fd, *entries_fds, *slots_fds], neighbours)


def _open_in_memory(key: bytes, block_bytes: int, num_ranks: int, max_bytes: int) -> TierPlace:
    num_slots = _num_slots_in(max_bytes, block_bytes, num_ranks)
    if num_slots < _MIN_NUM_SLOTS:
        logger.warning("no blocks of the cache are kept: %d bytes of memory have no room for any", max_bytes)
        return NOWHERE
    descriptors = [os.memfd_create(_MEMORY_NAME, os.MFD_CLOEXEC) for _ in range(2 * num_ranks)]
    for descriptor in descriptors[num_ranks:]:
        begin_entries(descriptor, key, block_bytes)
    paths = [f"/proc/{os.getpid()}/fd/{descriptor}" for descriptor in descriptors]
    files = TierFiles(paths[:num_ranks], paths[num_ranks:], _num_on_the_way(block_bytes))
    return TierPlace(key, "", files, TierIndex(num_slots), descriptors)


def _num_slots_in(num_bytes: int, block_bytes: int, num_ranks: int) -> int:
    one = num_ranks * (slot_bytes_of(block_bytes) + entries_bytes_of(1) - entries_bytes_of(0))
    return max(0, num_bytes - num_ranks * (entries_bytes_of(0) + PAGE_BYTES)) // one  # entries end within a page


def _num_on_the_way(block_bytes: int) -> int:
    return min(_MOST_ON_THE_WAY, max(_LEAST_ON_THE_WAY, _BYTES_ON_THE_WAY // block_bytes))


@contextlib.contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """While this lasts no other engine looks for files there, or for what it may remove."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _stem_of(folder: str, name: str, number: int) -> str:
    return os.path.join(folder, f"{name}.{number}")


def _stems_of(folder: str, name: str) -> set[str]:
    """Of all engines that have ever kept such blocks here."""
    names = (other.removesuffix(".lock") for other in os.listdir(folder) if other.endswith(".lock"))
    return {os.path.join(folder, other) for other in names if other.startswith(name + ".")}


def _hold_stem(folder: str, name: str) -> tuple[str, int] | None:
    """The first of the names that no other engine holds, and the descriptor that holds it."""
    for number in range(_MAX_NUM_FILES):
        stem = _stem_of(folder, name, number)
        descriptor = _hold(stem + ".lock", os.O_CREAT)
        if descriptor is not None:
            return stem, descriptor
    return None


def _hold(path: str, flags: int = 0) -> int | None:
    """A descriptor that holds the file; None where somebody else does, or it was just removed. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    except FileNotFoundError:
        if flags & os.O_CREAT:
            raise  # the folder is gone
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _throw_away(folder: str, stems: list[TierStem], key: bytes, block_bytes: int, names: set[bytes] | None) -> None:
    """From those of ``stems`` that nobody holds, who would do it; what the disk refuses stays. None: all there is."""
    with contextlib.suppress(OSError), _alone_in(folder):
        for stem in stems:
            descriptor = _hold(stem.path + ".lock")
            if descriptor is None:
                continue
            try:
                for rank in range(stem.num_ranks):
                    with contextlib.suppress(OSError):
                        empty_entries(stem.entries_path(rank), key, block_bytes, names)
            finally:
                os.close(descriptor)


def _read_all(entries_fds: list[int], key: bytes, block_bytes: int, num_slots: int) -> list[Entry]:
    """What every rank has its part of."""
    first, *others = (read_entries(descriptor, key, block_bytes, num_slots) for descriptor in entries_fds)
    names = [{entry.slot: entry.name for entry in entries} for entries in others]
    return [entry for entry in first if all(known.get(entry.slot) == entry.name for known in names)]


def _fit(
    entries_fds: list[int], slots_fds: list[int], entries: list[Entry], key: bytes, block_bytes: int, num_slots: int
) -> None:
    """Files of another form begin anew; what is beyond the room for ``num_slots`` is cut off."""
    for descriptor in entries_fds:
        if not entries:
            begin_entries(descriptor, key, block_bytes)
        _cut(descriptor, entries_bytes_of(num_slots))
    for descriptor in slots_fds:
        _cut(descriptor, num_slots * slot_bytes_of(block_bytes) if entries else 0)


def _cut(descriptor: int, num_bytes: int) -> None:
    if os.fstat(descriptor).st_size > num_bytes:
        os.ftruncate(descriptor, num_bytes)


class _Stem(NamedTuple):
    """The files of an engine, which nobody uses while ``descriptor`` holds them."""

    paths: list[str]
    num_bytes: int
    used_at: float
    descriptor: int


def _sweep(folder: str, own_stems: set[str], max_bytes: int) -> int:
    """Removes what other models and servers left, the longest unused first, until it has at most ``max_bytes``.

    Returns:
        the bytes that it has then. What engines hold that run is theirs, and counts for them.
    """
    names = sorted(os.listdir(folder))
    left = 0
    with contextlib.ExitStack() as held:
        stems = list(_stems(folder, names, own_stems, held.callback))
        for stem in sorted(stems, key=lambda stem: -stem.used_at):
            if left + stem.num_bytes <= max_bytes:
                left += stem.num_bytes
                continue
            for path in stem.paths:
                os.unlink(path)
    return left


def _stems(folder: str, names: list[str], own_stems: set[str], on_end: Callable[..., object]) -> Iterator[_Stem]:
    for name in names:
        stem = os.path.join(folder, name.removesuffix(".lock"))
        if not name.endswith(".lock") or stem in own_stems:
            continue
        descriptor = _hold(os.path.join(folder, name))
        if descriptor is None:
            continue
        on_end(os.close, descriptor)
        paths = [os.path.join(folder, other) for other in names if other.startswith(os.path.basename(stem) + "-")]
        statuses = [os.stat(path) for path in paths]
        num_bytes = sum(status.st_blocks * 512 for status in statuses)
        used_at = max((status.st_mtime for status in statuses), default=0.0)
        yield _Stem([*paths, f"{stem}.lock"], num_bytes, used_at, descriptor)
