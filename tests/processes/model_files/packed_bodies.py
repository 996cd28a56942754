"""What the processes of ``test_packed_processes`` do: store a sample, hold one, or hang in the middle of writing one."""

from __future__ import annotations

import os
import sys
import time

from tests.unit.model_files.packed_samples import KEY, folder_at, sample, store


def hang_while_writing(path: str) -> None:
    """Writes the first array and then nothing more."""
    write = os.pwrite

    def pwrite(descriptor: int, content: memoryview, position: int) -> int:
        written = write(descriptor, content, position)
        print("written", flush=True)
        time.sleep(600)
        return written

    os.pwrite = pwrite  # type: ignore[assignment]
    store(folder_at(path))


def hold(path: str) -> None:
    """Maps the file, says so, and holds it until its standard input ends."""
    file = folder_at(path).open(KEY)
    assert file is not None
    print("mapped", flush=True)
    sys.stdin.read()
    array, content = sample()[1][0]
    print("same" if file.data(array).tobytes() == content.tobytes() else "other", flush=True)


def pack_once(path: str) -> None:
    """As a starting server does: looks, takes the lock, looks again, packs; says whether it was the one that packed."""
    folder = folder_at(path, wait_seconds=60.0)
    packs = False
    with folder.packing(KEY):
        if folder.open(KEY) is None:
            packs = True
            time.sleep(0.2)  # the conversion, in which the others come
            folder.store(*sample())
    assert folder.open(KEY) is not None
    print("packed" if packs else "found", flush=True)


if __name__ == "__main__":
    {"hang": hang_while_writing, "hold": hold, "pack": pack_once}[sys.argv[1]](sys.argv[2])
