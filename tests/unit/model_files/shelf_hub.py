"""A model hub in memory; counts what is asked of it, and can be out of reach. Knows nothing of who asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from yeoul.errors import ModelFileError
from yeoul.model_files.hub_client import HubListing, HubUnreachableError

COMMIT = "c0ffee"


class ShelfHub:
    """Repositories by name; each maps file names to contents. ``cache`` is where downloads go."""

    def __init__(self, cache: Path, repositories: dict[str, dict[str, bytes]]) -> None:
        self.cache = cache
        self.repositories = repositories
        self.is_reachable = True
        self.num_listings = 0
        self.downloads: list[str] = []

    def list_files(self, repository: str, revision: str | None) -> HubListing:
        self.num_listings += 1
        if not self.is_reachable:
            raise HubUnreachableError("the cable is cut")
        if repository not in self.repositories:
            raise ModelFileError(f"no such model: {repository}")
        return HubListing(COMMIT, {name: len(content) for name, content in self.repositories[repository].items()})

    def download(self, repository: str, commit: str, name: str, on_bytes: Callable[[int], None]) -> str:
        assert commit == COMMIT
        path = self._folder(repository) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.repositories[repository][name])
        self.downloads.append(name)
        on_bytes(path.stat().st_size)
        return str(path)

    def cached_folder(self, repository: str, revision: str | None) -> str | None:
        folder = self._folder(repository)
        return str(folder) if folder.exists() else None

    def _folder(self, repository: str) -> Path:
        return self.cache / repository.replace("/", "--") / "snapshots" / COMMIT
