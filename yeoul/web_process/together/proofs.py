"""SharedProofs: that tool calls work is tried by one of several web processes, once, and known to all; knows no route.

The first one tries and tells the others; who comes later asks them.
"""

from __future__ import annotations

import msgspec

from yeoul.messages.siblings import SiblingAnswer, SiblingQuestion
from yeoul.web_process.fleet.fleet_model import FleetModel
from yeoul.web_process.server_context import ServerContext

_TOLD, _ASKED = "told_proof", "proof"


class _Proof(msgspec.Struct, array_like=True):
    model: str
    state: str
    reason: str = ""


class SharedProofs:
    """Of one web process that has siblings."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        context.asked[_TOLD] = self._hear
        context.asked[_ASKED] = self._tell

    async def prove(self, model: FleetModel) -> None:
        """In the place of ``ServerContext.prove_calls``. The engine is ready."""
        siblings = self._context.siblings
        if siblings.index or siblings.start:
            for answer in await siblings.ask(SiblingQuestion("", _ASKED, body=model.name.encode())):
                if (proof := _read(answer)) is not None and proof.state != "pending":
                    self._take(proof)
                    return
        if siblings.index == 0:
            await self._context.prove_calls(model)
            await siblings.ask(SiblingQuestion("", _TOLD, body=self._written(model)))

    async def _hear(self, body: bytes) -> bytes:
        self._take(msgspec.json.decode(body, type=_Proof))
        return b""

    async def _tell(self, name: bytes) -> bytes:
        return self._written(self._context.fleet.find(name.decode()))

    def _written(self, model: FleetModel) -> bytes:
        proof = self._context.proof_of(model)
        return msgspec.json.encode(_Proof(model.name, proof.state, proof.reason))

    def _take(self, told: _Proof) -> None:
        proof = self._context.proof_of(self._context.fleet.find(told.model))
        proof.state, proof.reason = told.state, told.reason  # type: ignore[assignment]


def _read(answer: SiblingAnswer) -> _Proof | None:
    return msgspec.json.decode(answer.body, type=_Proof) if answer.status == 200 else None
