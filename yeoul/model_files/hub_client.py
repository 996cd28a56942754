"""The Hugging Face hub behind a small interface; knows nothing of which files matter. hub_fetch.py calls it.

The client library is imported at first use only: a start from a local file never loads it. Its own settings
(HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE) hold.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from yeoul.errors import ModelFileError


class HubUnreachableError(Exception):
    """The hub did not answer, or must not be asked; what is in the cache may still do."""


class HubListing(NamedTuple):
    """A repository at one commit: file names with their sizes in bytes (0 where the hub does not say)."""

    commit: str
    sizes: dict[str, int]


class Hub(Protocol):
    """What fetching needs of a hub."""

    def list_files(self, repository: str, revision: str | None) -> HubListing:
        """Raises ModelFileError if there is no such repository or revision, HubUnreachableError if nobody answers."""

    def download(self, repository: str, commit: str, name: str, on_bytes: Callable[[int], None]) -> str:
        """The path of a file of a commit, fetched unless it is there. Tells the number of each piece's bytes."""

    def cached_folder(self, repository: str, revision: str | None) -> str | None:
        """The folder that an earlier download left, whole or not."""


class HuggingFaceHub:
    """The hub of the client library ``huggingface_hub``; ``cache_dir`` and ``endpoint`` None are the library's own."""

    def __init__(self, cache_dir: str | None = None, endpoint: str | None = None) -> None:
        self._cache_dir = cache_dir
        self._endpoint = endpoint

    def list_files(self, repository: str, revision: str | None) -> HubListing:
        """See ``Hub``."""
        from huggingface_hub import HfApi, errors

        try:
            info = HfApi(endpoint=self._endpoint).model_info(repository, revision=revision, files_metadata=True)
        except errors.GatedRepoError as error:
            raise ModelFileError(
                f"{repository} is gated: accept its terms on the hub's page and log in (hf auth login), or give a local path"
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise ModelFileError(
                f"there is no local file {repository!r}, and no such model on the hub (or it is private: hf auth login); "
                "check the spelling"
            ) from error
        except errors.RevisionNotFoundError as error:
            raise ModelFileError(f"{repository} has no revision {revision!r}; check --revision") from error
        except errors.HFValidationError as error:
            raise ModelFileError(f"{repository!r} is no hub id: {error}") from error
        except Exception as error:  # the library lets through those of its HTTP client, whichever that is
            raise HubUnreachableError(_first_line(error)) from error
        sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}
        return HubListing(info.sha or revision or "main", sizes)

    def download(self, repository: str, commit: str, name: str, on_bytes: Callable[[int], None]) -> str:
        """See ``Hub``."""
        from huggingface_hub import hf_hub_download

        options: dict[str, Any] = {}
        if "tqdm_class" in inspect.signature(hf_hub_download).parameters:
            options["tqdm_class"] = _counting_bar(on_bytes)
        try:
            path: str = hf_hub_download(
                repository, name, revision=commit, cache_dir=self._cache_dir, endpoint=self._endpoint, **options
            )
        except Exception as error:  # as above
            reason = _first_line(error)
            raise ModelFileError(f"cannot fetch {name} of {repository} from the hub: {reason}; try again") from error
        return path

    def cached_folder(self, repository: str, revision: str | None) -> str | None:
        """See ``Hub``."""
        from huggingface_hub import try_to_load_from_cache

        for name in ("config.json", "README.md", ".gitattributes"):
            found = try_to_load_from_cache(repository, name, cache_dir=self._cache_dir, revision=revision)
            if isinstance(found, str):
                return os.path.dirname(found)
        return None


def _counting_bar(on_bytes: Callable[[int], None]) -> type:
    """A progress bar class that draws nothing and tells the bytes; it has what the library uses of tqdm."""

    class CountingBar:
        def __init__(self, *_: object, **options: Any) -> None:
            self.n = 0
            self.total = options.get("total")

        def update(self, num_bytes: float | None = 1) -> None:
            self.n += int(num_bytes or 0)
            on_bytes(int(num_bytes or 0))

        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_, **__: None

        def __enter__(self) -> CountingBar:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    return CountingBar


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
