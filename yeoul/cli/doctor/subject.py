"""Subject: what the doctor looks at, and how what it says of it is made fit to be shown to strangers; knows no check."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path

from yeoul.config.parts import EnginePlace, WorkerSettings
from yeoul.config.settings import Settings
from yeoul.messages.reports import DeviceReport
from yeoul.model_files.describe import fake_description
from yeoul.model_files.description import ModelDescription, ModelFiles

_HOMES = re.compile(r"/(home|Users)/[^/\s'\"]+")
_CREDENTIALS = re.compile(r"://[^/\s]*@")
_MAX_CHARACTERS = 600


@dataclasses.dataclass(frozen=True)
class Subject:
    """This machine, a server's settings, and where one may run.

    Args:
        settings: what ``yeoul serve`` would be started with.
        find_device: looks at what a worker could compute with. Raises YeoulError.
        root: the folder with ``proc`` and ``sys`` in it.
        usable: the numbers of the processors that this process may use; None asks the kernel.
        url: the server that was named; None looks where the settings say.
        home: the user's home folder.
    """

    settings: Settings
    find_device: Callable[[], DeviceReport]
    root: str = "/"
    usable: Collection[int] | None = None
    url: str | None = None
    api_key: str | None = None
    home: str = ""

    def path(self, name: str) -> Path:
        """A file of the kernel's."""
        return Path(self.root, name)

    def worker_settings(self, files: ModelFiles | None = None, description: ModelDescription | None = None) -> WorkerSettings:
        """The first worker's part, of a model or of any."""
        settings, described = self.settings, description or fake_description()
        return WorkerSettings(
            rank=0,
            tensor_parallel_size=settings.parallel.tensor_parallel_size,
            pipeline_parallel_size=settings.parallel.pipeline_parallel_size,
            num_compute_threads=settings.parallel.num_compute_threads,
            model=settings.model,
            files=files or ModelFiles(name="fake", file_format="fake", path=""),
            description=described,
            max_model_len=settings.model.max_model_len or described.max_position_embeddings,
            max_num_seqs=settings.scheduler.max_num_seqs,
            max_num_batched_tokens=settings.scheduler.max_num_batched_tokens,
            cache=settings.cache,
            fake=settings.fake,
            folder="",
            cpu_omp_threads_bind=settings.parallel.cpu_omp_threads_bind,
            cpu_num_of_reserved_cpu=settings.parallel.cpu_num_of_reserved_cpu,
            engine=EnginePlace(0, settings.parallel.data_parallel_size),
        )

    def clean(self, text: str) -> str:
        """``text`` on one line, without keys and the user's name, and without what would steer a terminal."""
        keys = [*self.settings.server.api_key, self.api_key or ""]
        for secret in sorted(filter(None, keys), key=len, reverse=True):
            text = text.replace(secret, "***")
        if len(self.home) > 1:
            text = re.sub(rf"{re.escape(self.home)}(?![^/\s'\",;:)])", "~", text)
            user = os.path.basename(self.home)
            if len(user) > 1 and user != "root":
                text = re.sub(rf"(?<=/){re.escape(user)}(?![\w.-])", "USER", text)
        text = _CREDENTIALS.sub("://***@", _HOMES.sub(r"/\1/USER", text))
        text = "".join(character if character.isprintable() else " " for character in text)
        return text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + "..."
