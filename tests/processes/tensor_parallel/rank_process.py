"""One rank of a real process group: reads a tiny model, saves a prompt's logits and where it listens; the test compares."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from tests.running_server import listening_addresses
from tests.unit.models.running import all_logits, load
from yeoul.layers.parallel import create_tensor_parallel
from yeoul.model_files.description import ModelFiles


def main() -> None:
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    shared_fd = int(sys.argv[4]) if len(sys.argv) > 4 else None
    parallel = create_tensor_parallel(rank, size, str(folder), shared_fd=shared_fd, timeout_seconds=60)
    addresses = sorted(address for address, _ in listening_addresses([os.getpid()]))
    (folder / f"listening.{rank}").write_text("\n".join(addresses))
    jobs = json.loads((folder / "jobs.json").read_text())
    for job in jobs:
        files = ModelFiles(name=job["name"], file_format=job["file_format"], path=job["path"])
        model = load(files, parallel=parallel, dtype=getattr(torch, job["dtype"]))
        torch.save(all_logits(model, job["tokens"]), folder / f"{job['name']}.{rank}.pt")
    parallel.close()


if __name__ == "__main__":
    main()
