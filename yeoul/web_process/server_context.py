"""ServerContext: what every route is given: the engine, the settings, the metrics, the served names; no route itself."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field

from fastapi import Request

from yeoul.config.settings import Settings
from yeoul.errors import InvalidRequestError, NotFoundError
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.http.body_reader import BodyReader
from yeoul.web_process.http.request_body import ServedBody
from yeoul.web_process.openai.schemas.chat import ChatRequest
from yeoul.web_process.openai.schemas.completions import CompletionRequest
from yeoul.web_process.operations.metrics import Metrics


@dataclass(frozen=True)
class ServerContext:
    """Made once by ``app.py``. ``started_at`` is in seconds of the wall clock."""

    llm: AsyncLLM
    settings: Settings
    metrics: Metrics
    started_at: int = field(default_factory=lambda: int(time.time()))

    @functools.cached_property
    def bodies(self) -> BodyReader:
        """Reads the bodies of all routes, which have one limit together."""
        return BodyReader(self.settings.server)

    @property
    def model_names(self) -> list[str]:
        """The names that requests may use; answers carry the first one unless the request said another."""
        return self.settings.server.served_model_name or [self.llm.model.files.name]

    @property
    def system_fingerprint(self) -> str:
        """What an answer depends on besides the request, as the engine reported it; empty before it is ready."""
        return self.llm.ready.model_fingerprint if self.llm.ready is not None else ""

    def check_model(self, name: str | None) -> str:
        """The served name that an answer carries.

        Raises:
            NotFoundError: no such model here.
            UnavailableError, ProcessDeadError: the engine is not there.
        """
        self.llm.check_health()
        names = self.model_names
        if name is None:
            return names[0]
        if name not in names:
            raise NotFoundError(
                f"the model {name[:200]!r} does not exist here; this server has {', '.join(names)}",
                param="model",
                code="model_not_found",
            )
        return name

    def to_sampling(self, body: CompletionRequest | ChatRequest) -> SamplingParams:
        """The sampling parameters of a request, without the form of its answer.

        Raises:
            InvalidRequestError: a value that cannot work.
        """
        sampling = body.to_sampling(self.llm.text.sampling_defaults)
        if sampling.forced_token_ids and not self.settings.server.allow_forced_tokens:
            raise InvalidRequestError(
                "forced_token_ids are for replays: leave them out, or start the server with --allow-forced-tokens",
                param="forced_token_ids",
            )
        return sampling

    def terms(self, request: Request, body: ServedBody | None = None) -> ServiceTerms:
        """The terms of a request: what its body says, its key where there are several, and the server's own deadline.

        Prefix caches are kept apart by the key and by what the body adds.
        """
        tenant = getattr(request.state, "tenant", "") if len(self.settings.server.api_key) > 1 else ""
        said = body or ServedBody()
        deadlines = (said.deadline_seconds, self.settings.time.request_deadline_seconds)
        return ServiceTerms(
            priority=said.priority or 0,
            cache_salt=f"{tenant}:{said.cache_salt}" if said.cache_salt else tenant,
            tenant=tenant,
            deadline_seconds=min(filter(None, deadlines), default=None),
            arrival=getattr(request.state, "arrival", None),
        )
