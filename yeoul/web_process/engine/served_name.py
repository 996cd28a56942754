"""ServedName: a name that requests may use, and the engine behind it; knows no route."""

from __future__ import annotations

from typing import NamedTuple

from yeoul.web_process.engine.async_llm import AsyncLLM


class ServedName(NamedTuple):
    """``name`` is what the answer says. Several names may have one engine."""

    name: str
    llm: AsyncLLM

    @property
    def system_fingerprint(self) -> str:
        """What an answer depends on besides the request, as the engine reported it; empty before it was ready once."""
        ready = self.llm.ready
        return self.llm.fingerprint if ready is None else ready.model_fingerprint
