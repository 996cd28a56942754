"""What the processes of ``test_packed_processes`` do: store a sample, hold one, or hang in the middle of writing one."""

from __future__ import annotations

import sys
import time

from tests.unit.model_files.packed_samples import KEY, NUM_BYTES, contents, fill, folder_at


def hang_while_writing(path: str) -> None:
    """Writes the first array and then nothing more."""
    with folder_at(path).write("tiny", KEY) as writer:
        writer.put("uint8", [NUM_BYTES], contents()["matrix"])
        print("written", flush=True)
        time.sleep(600)


def hold(path: str) -> None:
    """Maps the file, says so, and holds it until its standard input ends."""
    file = folder_at(path).open(KEY)
    assert file is not None
    print("mapped", flush=True)
    sys.stdin.read()
    array = file.weights["matrix"].arrays[0]
    assert array is not None
    print("same" if file.data(array).tobytes() == contents()["matrix"].tobytes() else "other", flush=True)


def pack_once(path: str) -> None:
    """As a starting server does that found nothing: begins a file, waits until the others have begun theirs, and ends it."""
    folder = folder_at(path)
    with folder.write("tiny", KEY) as writer:
        print("begun", flush=True)
        sys.stdin.readline()
        fill(writer)
    assert folder.open(KEY) is not None
    print("packed", flush=True)


def pack_in_turn(path: str) -> None:
    """As servers that start side by side: whoever has its turn first packs, once it is told to, and others find it packed."""
    folder = folder_at(path)
    print("begun", flush=True)
    with folder.turn(KEY) as had_to_wait:
        if had_to_wait and folder.open(KEY) is not None:
            print("found", flush=True)
            return
        print("packing", flush=True)
        sys.stdin.readline()
        with folder.write("tiny", KEY) as writer:
            fill(writer)
    print("packed", flush=True)


if __name__ == "__main__":
    {"hang": hang_while_writing, "hold": hold, "pack": pack_once, "pack in turn": pack_in_turn}[sys.argv[1]](sys.argv[2])
