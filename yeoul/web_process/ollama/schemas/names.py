"""TaggedName: how Ollama's requests name the model."""

from __future__ import annotations

from typing import Annotated

from yeoul.web_process.http.openapi import says

TaggedName = Annotated[str, says("One of the served names, with `:latest` behind it or not.")]
