"""ServerContext: what every route is given: the engine, the settings, what is kept, the served names; no route itself."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Protocol

from fastapi import Query

from yeoul.config.otlp import OtlpTarget, find_otlp_target
from yeoul.config.settings import Settings
from yeoul.errors import InvalidRequestError
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.siblings import SiblingQuestion
from yeoul.model_files.tokenizer_source import SamplingDefaults
from yeoul.web_process.answers.call_proof import CallProof
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.engine.service_terms import Caller, ServiceTerms
from yeoul.web_process.engine.waiting_room import RoomLeft
from yeoul.web_process.fleet.fleet_model import FleetModel
from yeoul.web_process.fleet.model_fleet import ModelFleet
from yeoul.web_process.fleet.model_names import LATEST as LATEST
from yeoul.web_process.http.body_reader import BodyReader
from yeoul.web_process.http.browser_sessions import BrowserSessions
from yeoul.web_process.http.request_body import ServedBody
from yeoul.web_process.http.traffic import Traffic
from yeoul.web_process.siblings import NO_SIBLINGS, Siblings
from yeoul.web_process.store.batches import KeptBatches
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.files import KeptFiles

AskedModel = Annotated[str | None, Query(alias="model", description="Of several models the one that is asked about.")]
"""Where a question has no body."""


NEW_BATCHES = "batches"
"""What siblings are told when there is something new of a batch."""


class SamplingBody(Protocol):
    """A request that says how its answer is sampled."""

    def to_sampling(self, defaults: SamplingDefaults) -> SamplingParams:
        """Its parameters, with the model's own where it says nothing."""


class LastingWork(Protocol):
    """What goes on without a connection, and across servers where there is a folder for it."""

    async def resume(self) -> None:
        """Takes up what an earlier server had begun. The engine is ready."""

    async def suspend(self) -> None:
        """The server stops: what can be taken up by the next one ends here, and nothing new is begun."""


async def _no_metrics() -> bytes:
    """Nobody counts."""
    return b""


@dataclass(frozen=True)
class ServerContext:
    """Made once by ``server.py``. ``render_metrics`` writes what Prometheus reads; ``started_at`` is of the wall clock;
    ``proofs`` are made once a model is loaded for the first time; routes add to ``lasting`` what goes on without them.
    ``siblings`` are the other web processes of this server, ``asked`` what they may ask this one for besides its routes.
    """

    fleet: ModelFleet
    settings: Settings
    database: Database
    render_metrics: Callable[[], Awaitable[bytes]] = _no_metrics
    started_at: int = field(default_factory=lambda: int(time.time()))
    proofs: dict[FleetModel, CallProof] = field(default_factory=dict)
    lasting: list[LastingWork] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)
    siblings: Siblings = NO_SIBLINGS
    asked: dict[str, Callable[[bytes], Awaitable[bytes]]] = field(default_factory=dict)

    @functools.cached_property
    def bodies(self) -> BodyReader:
        """Reads the bodies of all routes, which have one limit together."""
        return BodyReader(self.settings.server)

    @functools.cached_property
    def sessions(self) -> BrowserSessions:
        """Browsers that were let in."""
        return BrowserSessions(self.settings.server.api_key, self.siblings.folder)

    @functools.cached_property
    def files(self) -> KeptFiles:
        """The files of the API."""
        return KeptFiles(self.database, self.settings.store)

    @functools.cached_property
    def batches(self) -> KeptBatches:
        """Its batches."""
        return KeptBatches(self.database, self.files, self.settings.store)

    @functools.cached_property
    def otlp_target(self) -> OtlpTarget | None:
        """Where spans of requests are sent; None where they are not."""
        return find_otlp_target(self.settings.server)

    async def note_batches(self) -> None:
        """A batch was made or cancelled: whoever runs them, here or in another process, hears of it."""
        if self.siblings is not NO_SIBLINGS:
            await self.siblings.ask(SiblingQuestion("", NEW_BATCHES))

    @property
    def llm(self) -> AsyncLLM:
        """The engine of the first model."""
        return self.fleet.models[0].llm

    @property
    def names(self) -> list[str]:
        """The names that requests may use."""
        return self.fleet.names

    async def find_model(self, name: str | None) -> ServedName:
        """What is served under the name that a request says. Raises as ``ModelFleet.take``."""
        return await self.fleet.take(name)

    def proof_of(self, model: FleetModel) -> CallProof:
        """Whether calls work with it."""
        return self.proofs.setdefault(model, CallProof())

    async def prove_calls(self, model: FleetModel) -> None:
        """Tries it. The engine is ready."""
        await self.proof_of(model).run(ServedName(model.name, model.llm))

    async def find_shown(self, name: str | None) -> FleetModel:
        """The model that a question is about, which has no body: one of the names, or the first that is loaded.

        Its text is there; its engine may not be. Raises as ``ModelFleet.look_at``.
        """
        return await self.fleet.look_at(name)

    def to_sampling(self, body: SamplingBody, model: ServedName) -> SamplingParams:
        """The sampling parameters of a request, without the form of its answer.

        Raises:
            InvalidRequestError: a value that cannot work.
        """
        sampling = body.to_sampling(model.llm.text.sampling_defaults)
        if sampling.forced_token_ids and not self.settings.server.allow_forced_tokens:
            raise InvalidRequestError(
                "forced_token_ids are for replays: leave them out, or start the server with --allow-forced-tokens",
                param="forced_token_ids",
            )
        return sampling

    def terms(self, caller: Caller, body: ServedBody | None = None, model: ServedName | None = None) -> ServiceTerms:
        """The terms of a request: what its body says, its key where there are several, and the server's own deadline.

        Prefix caches are kept apart by the key and by what the body adds.
        """
        tenant = caller.tenant if len(self.settings.server.api_key) > 1 else ""
        said = body or ServedBody()
        own, general = said.deadline_seconds, self.settings.time.request_deadline_seconds
        return ServiceTerms(
            priority=said.priority or 0,
            cache_salt=f"{tenant}:{said.cache_salt}" if said.cache_salt else tenant,
            tenant=tenant,
            deadline_seconds=min(filter(None, (own, general)), default=None),
            is_own_deadline=own is not None and (not general or own <= general),
            arrival=caller.arrival,
            model=model.name if model is not None else "",
            request_id=caller.request_id,
            traceparent=caller.traceparent,
            own_span=caller.own_span,
            route=caller.route,
            body=body,
            raw_body=caller.raw_body,
            account=caller.account,
        )

    def room_left(self, tenant: str | None) -> RoomLeft | None:
        """What may still come of a tenant's requests before there is a 429; not for who should have a key and has none.

        Each of several models has room of its own, and nobody knows here which one is meant.
        """
        api_keys = self.settings.server.api_key
        if (tenant is None and api_keys) or len(self.fleet.models) > 1:
            return None
        return self.llm.waiting_room.left(tenant if tenant is not None and len(api_keys) > 1 else "")
