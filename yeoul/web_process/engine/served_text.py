"""ServedText: the model's files, and the tokenizer and grammars that requests need before any engine; found and loaded once.

Knows nothing of HTTP or the engine. ``AsyncLLM`` holds it: what is loaded here outlives an engine that is put to sleep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from yeoul.config.settings import ModelSettings
from yeoul.errors import ModelFileError, UnavailableError
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.model_files.file_identity import FileIdentity, identify
from yeoul.web_process.engine.answer_grammars import AnswerGrammars
from yeoul.web_process.engine.model_text import ModelText, load_text
from yeoul.web_process.engine.served_model import Progress, ServedModel, files_have_changed, find_served_model, served_model


class ServedText:
    """Of one model. ``call_workers`` is for ``AnswerGrammars``."""

    def __init__(
        self,
        settings: ModelSettings,
        on_progress: Progress | None,
        call_workers: Callable[[str, list[str]], Awaitable[str]],
    ) -> None:
        self._settings = settings
        self._on_progress = on_progress
        self._call_workers = call_workers
        self._model: ServedModel | None = None
        self._identities: list[FileIdentity] = []
        self._text: ModelText | None = None
        self._grammars: AnswerGrammars | None = None
        self._reading: asyncio.Task[None] | None = None

    def know(self, files: ModelFiles, description: ModelDescription) -> None:
        """Somebody else has found it."""
        self._model = served_model(self._settings, files, description)

    def resolve(self) -> None:
        """Finds the model's files, and fetches them where they are missing. Raises ConfigError."""
        if self._model is None:
            found = find_served_model(self._settings, self._on_progress)
            self._identities = [] if found.files.file_format == "fake" else identify(found.files)
            self._model = found

    def has_changed(self) -> bool:
        """Whether other files lie where it was found, or none."""
        if self._model is None or not self._identities:
            return False
        try:
            return identify(self._model.files) != self._identities
        except (ModelFileError, OSError):
            return True

    def forget(self) -> None:
        """It has to be found and loaded anew. No request has to be in an engine."""
        self.close()
        self._model = self._text = self._grammars = self._reading = None

    async def load(self) -> None:
        """The same, and loads the tokenizer; whoever gives up waiting does not stop it for others."""
        if self._text is None:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._load(), name="load_text")
            await asyncio.shield(self._reading)

    async def _load(self) -> None:
        if self._model is None:
            await asyncio.to_thread(self.resolve)
        text = await asyncio.to_thread(load_text, self.model, self._settings)
        if self._reading is not asyncio.current_task():  # it was forgotten meanwhile
            text.close()
            raise files_have_changed()
        self._grammars = AnswerGrammars(text.tokenizer, self.model.limits.vocab_size, self._call_workers)
        self._text = text

    def close(self) -> None:
        """Ends its threads."""
        if self._text is not None:
            self._text.close()

    def note_context(self, max_model_len: int) -> None:
        """The engine has room for so many tokens a request."""
        limits = msgspec.structs.replace(self.model.limits, max_model_len=max_model_len)
        self._model = msgspec.structs.replace(self.model, limits=limits)

    @property
    def is_found(self) -> bool:
        """Whether ``resolve`` has returned."""
        return self._model is not None

    @property
    def is_loaded(self) -> bool:
        """Whether ``load`` has."""
        return self._text is not None

    @property
    def model(self) -> ServedModel:
        """The model's files, shape and limits; known once ``resolve`` has returned."""
        assert self._model is not None, "resolve() comes first"
        return self._model

    @property
    def text(self) -> ModelText:
        """The tokenizer and the chat template.

        Raises:
            UnavailableError: they are not loaded yet.
        """
        if self._text is None:
            raise UnavailableError("the server is starting; try again in a few seconds")
        return self._text

    @property
    def grammars(self) -> AnswerGrammars:
        """What makes grammars ready for the workers. Raises as ``text``."""
        if self._grammars is None:
            raise UnavailableError("the server is starting; try again in a few seconds")
        return self._grammars
