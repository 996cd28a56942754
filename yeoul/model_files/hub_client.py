"""The Hugging Face hub behind a small interface; knows nothing of which files matter. hub_fetch.py calls it.

The client library is imported at first use only: a start from a local file never loads it. Its own settings
(HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE) hold. A file that is whole is kept; of one that a killed process had begun
the library finds nothing again, so the next download removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from yeoul.errors import ModelFileError

_under_way: set[threading.Thread] = set()


def downloads_under_way() -> int:
    """How many there are; also those for which nobody waits any longer, such as a server that has stopped."""
    return len(_under_way)


class HubUnreachableError(Exception):
    """The hub did not answer, or must not be asked; what is in the cache may still do."""


class Hub(Protocol):
    """What fetching needs of a hub. A listing is file names with their sizes in bytes (0 where the hub does not say)."""

    def list_files(self, repository: str, revision: str | None) -> dict[str, int]:
        """Raises ModelFileError if there is no such repository or revision, HubUnreachableError if nobody answers."""

    def cached_files(self, repository: str, revision: str | None) -> dict[str, int] | None:
        """The listing of the commit that was fetched last, without asking the hub; None if there is none."""

    def download(
        self, repository: str, revision: str | None, names: Sequence[str], on_bytes: Callable[[int], None], *, anew: bool
    ) -> str:
        """The folder with these files; fetches those that are not there, with ``anew`` all. Tells the bytes done so far."""

    def cached_folder(self, repository: str, revision: str | None) -> str | None:
        """The folder that an earlier download left, whole or not."""


class HuggingFaceHub:
    """The hub of the client library ``huggingface_hub``; ``cache_dir`` and ``endpoint`` None are the library's own."""

    def __init__(self, cache_dir: str | None = None, endpoint: str | None = None) -> None:
        self._cache_dir = cache_dir
        self._endpoint = endpoint

    def list_files(self, repository: str, revision: str | None) -> dict[str, int]:
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
        return {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}

    def cached_files(self, repository: str, revision: str | None) -> dict[str, int] | None:
        """See ``Hub``."""
        from huggingface_hub import errors, get_cached_repo_tree

        try:
            files = get_cached_repo_tree(repository, revision=revision, cache_dir=self._cache_dir)
        except (errors.CachedRepoTreeNotFoundError, errors.HFValidationError, OSError, ValueError):
            return None
        return {file.path: file.size for file in files}

    def download(
        self, repository: str, revision: str | None, names: Sequence[str], on_bytes: Callable[[int], None], *, anew: bool
    ) -> str:
        """See ``Hub``. Ctrl-C ends the waiting at once, and not when the library's threads have come to an end."""
        from huggingface_hub import constants, snapshot_download

        _remove_begun(self._cache_dir or constants.HF_HUB_CACHE, repository)
        folders: list[str] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                folder = snapshot_download(
                    repository,
                    revision=revision,
                    cache_dir=self._cache_dir,
                    endpoint=self._endpoint,
                    allow_patterns=[glob.escape(name) for name in names],
                    tqdm_class=_counting_bar(on_bytes),
                    force_download=anew,
                )
                folders.append(folder)
            except Exception as error:  # as above
                errors.append(error)
            finally:
                _under_way.discard(threading.current_thread())

        thread = threading.Thread(target=run, name="download_files", daemon=True)
        _under_way.add(thread)
        thread.start()
        thread.join()
        for error in errors:
            raise ModelFileError(f"cannot fetch {repository} from the hub: {_first_line(error)}; try again") from error
        return folders[0]

    def cached_folder(self, repository: str, revision: str | None) -> str | None:
        """See ``Hub``."""
        from huggingface_hub import errors, snapshot_download

        try:
            folder: str = snapshot_download(
                repository, revision=revision, cache_dir=self._cache_dir, allow_patterns=[], local_files_only=True
            )
        except (errors.LocalEntryNotFoundError, errors.HFValidationError, OSError, ValueError):
            return None
        return folder if os.path.isdir(folder) else None


def _remove_begun(cache: str, repository: str) -> None:
    """What killed processes have left of files; another one's that still fetches has its lock."""
    name = f"models--{repository.replace('/', '--')}"
    for path in glob.glob(os.path.join(glob.escape(cache), glob.escape(name), "blobs", "*.incomplete")):
        lock = os.path.join(cache, ".locks", name, f"{os.path.basename(path).split('.')[0]}.lock")
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            first, second = (held.enter_context(open(lock, "rb")) for _ in range(2))
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # as it should be: there are file systems that let everybody in
                os.unlink(path)


def _counting_bar(on_bytes: Callable[[int], None]) -> type:
    """A progress bar class that draws nothing. The library has one bar for bytes received, one for bytes written."""
    from tqdm import tqdm

    lock = threading.Lock()
    most = 0

    class CountingBar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options | {"disable": True})
            self._counts_bytes = options.get("unit") == "B"

        @property
        def format_dict(self) -> dict[str, Any]:
            return {}

        def update(self, num_bytes: float | None = 1) -> None:
            nonlocal most
            with lock:
                self.n += int(num_bytes or 0)
                if self._counts_bytes and self.n > most:
                    most = self.n
                    on_bytes(most)

    return CountingBar


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
