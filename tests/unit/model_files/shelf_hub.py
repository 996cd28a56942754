"""A model hub in memory; counts what is asked of it, and can be out of reach. Knows nothing of who asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from yeoul.errors import ModelFileError
from yeoul.model_files.hub_client import HubUnreachableError


class ShelfHub:
    """Repositories by name; each maps file names to contents. ``cache`` is where downloads go."""

    def __init__(self, cache: Path, repositories: dict[str, dict[str, bytes]]) -> None:
        self.cache = cache
        self.repositories = repositories
        self.is_reachable = True
        self.num_listings = 0
        self.downloads: list[str] = []
        self._listings: dict[str, dict[str, int]] = {}

    def list_files(self, repository: str, revision: str | None) -> dict[str, int]:
        self.num_listings += 1
        if not self.is_reachable:
            raise HubUnreachableError("the cable is cut")
        if repository not in self.repositories:
            raise ModelFileError(f"no such model: {repository}")
        return {name: len(content) for name, content in self.repositories[repository].items()}

    def cached_files(self, repository: str, revision: str | None) -> dict[str, int] | None:
        return self._listings.get(repository)

    def forget_listings(self) -> None:
        """Another program, or an older one, has fetched what is there."""
        self._listings = {}

    def download(
        self, repository: str, revision: str | None, names: Sequence[str], on_bytes: Callable[[int], None], *, anew: bool
    ) -> str:
        if not self.is_reachable:
            raise ModelFileError("cannot fetch it")
        self._listings[repository] = {name: len(content) for name, content in self.repositories[repository].items()}
        done = 0
        for name in names:
            path = self._folder(repository) / name
            if not path.exists() or anew:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.repositories[repository][name])
                self.downloads.append(name)
                done += path.stat().st_size
                on_bytes(done)
        return str(self._folder(repository))

    def cached_folder(self, repository: str, revision: str | None) -> str | None:
        folder = self._folder(repository)
        return str(folder) if folder.exists() else None

    def _folder(self, repository: str) -> Path:
        return self.cache / repository.replace("/", "--") / "snapshots" / "c0ffee"
