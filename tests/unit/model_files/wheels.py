"""Small wheels that carry a model, and a package registry that has them; knows nothing of who fetches them."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from yeoul.model_files.registry_models import RegistryModel, RegistryPart


def write_wheel(folder: Path, package: str, version: str, member: str, content: bytes) -> Path:
    """A wheel that pip takes for one."""
    name = package.replace("-", "_")
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def registry_model(*contents: bytes) -> RegistryModel:
    """A model whose parts have these contents."""
    whole = b"".join(contents)
    parts = tuple(
        RegistryPart(f"tiny-model-part{number}", "1.0.0", f"tiny_model_part{number}/part", len(content))
        for number, content in enumerate(contents, start=1)
    )
    return RegistryModel("tiny", "tiny.gguf", hashlib.sha256(whole).hexdigest(), len(whole), parts, "MIT")


class ShelfPackageSource:
    """A registry in memory; counts what is fetched, and can hold back, damage or break."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = {f"tiny-model-part{number}": content for number, content in enumerate(contents, start=1)}
        self.num_downloads = 0
        self.failure: Exception | None = None
        self.raw: bytes | None = None

    def download(self, requirements: Sequence[str], folder: str, on_bytes: Callable[[int], None]) -> None:
        self.num_downloads += 1
        for requirement in requirements:
            package, version = requirement.split("==")
            if package in self.contents:
                content = self.contents[package]
                path = write_wheel(Path(folder), package, version, f"{package.replace('-', '_')}/part", content)
                if self.raw is not None:
                    path.write_bytes(self.raw)
            on_bytes(1)
        if self.failure is not None:
            raise self.failure
