"""The model's fingerprint: a short name for weights, description, arithmetic and version; knows nothing of torch.

Each model runner computes it once at load; responses carry it as ``system_fingerprint``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from yeoul import __version__
from yeoul.config.parts import WorkerSettings
from yeoul.model_files.gguf_names import existing_parts

_SAMPLE_BYTES = 1 << 16


def model_fingerprint(settings: WorkerSettings, number_type: str) -> str:
    """``fp_`` and 12 hexadecimal digits. Whoever has the same gives the same answers.

    Hashes the description, the arithmetic (``number_type``), the parallel size and our version, and of each weight file its
    name, its size and its first and last 64 KiB: cheap, and different for every two models that anybody would confuse.
    """
    digest = hashlib.sha256(msgspec.json.encode(settings.description))
    digest.update(f"{number_type} {settings.tensor_parallel_size} {__version__}".encode())
    path = Path(settings.files.path) if settings.files.path else None
    if path is not None:
        files = sorted(path.glob("*.safetensors")) if path.is_dir() else list(map(Path, existing_parts(settings.files.path)))
        for file in files:
            _add_file(digest, file)
    return f"fp_{digest.hexdigest()[:12]}"


def _add_file(digest: hashlib._Hash, file: Path) -> None:
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        digest.update(f"{file.name} {size}".encode())
        stream.seek(0)
        digest.update(stream.read(_SAMPLE_BYTES))
        stream.seek(max(0, size - _SAMPLE_BYTES))
        digest.update(stream.read(_SAMPLE_BYTES))
