"""find_own_model(): a worker on another host finds the model there by itself, and makes sure that it is EngineCore's.

Knows nothing of weights: those are compared by their fingerprint, once all ranks have loaded them. ``main`` calls it.
"""

from __future__ import annotations

import socket

import msgspec

from yeoul.config.parts import WorkerSettings
from yeoul.errors import ConfigError
from yeoul.model_files.describe import describe
from yeoul.model_files.resolve import resolve_model


def find_own_model(settings: WorkerSettings) -> WorkerSettings:
    """The settings with this host's files of the model, fetched from the hub where they are not here yet.

    Raises:
        ModelFileError: it is not here and cannot be fetched.
        ConfigError: what is here under this name is another model.
    """
    files = resolve_model(settings.model)
    if describe(files) != settings.description:
        raise ConfigError(
            f"{files.name} at {files.path} on {socket.gethostname()} is another model than the one of this name where"
            " EngineCore runs; put the same files on every host, or give --revision with a commit of the hub"
        )
    return msgspec.structs.replace(settings, files=files)
