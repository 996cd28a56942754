"""RequestLine: the line of the log that each HTTP request has at its end; knows no route and no engine.

It is written at the level info with ``--log-requests``, else at the level debug. Neither query, prompt nor answer is in it.
"""

from __future__ import annotations

import logging
import time

from starlette.types import Scope

from yeoul.log import with_fields
from yeoul.web_process.engine.time_account import TimeAccount

_MAX_PATH_CHARACTERS = 200

logger = logging.getLogger("yeoul.requests")


class RequestLine:
    """``status`` is noted when the answer begins; a client that left before has seen none."""

    def __init__(self, scope: Scope, began: float, level: int) -> None:
        self.status: int | None = None
        self._scope = scope
        self._began = began
        self._level = level

    def write(self, account: TimeAccount | None) -> None:
        """The request has ended; ``account`` knows what was computed for it."""
        if not logger.isEnabledFor(self._level):
            return
        scope, state = self._scope, self._scope["state"]
        milliseconds = round((time.monotonic() - self._began) * 1000, 1)
        path, status = scope["path"][:_MAX_PATH_CHARACTERS], self.status
        fields: dict[str, object] = {"method": scope["method"], "path": path, "status": status, "milliseconds": milliseconds}
        words = f"{scope['method']} {path} {'(the client left)' if status is None else status}, {milliseconds:g} ms"
        if (outcome := account.outcome if account is not None else None) is not None:
            fields |= outcome._asdict()
            words += f", {outcome.num_prompt_tokens} tokens in, {outcome.num_output_tokens} out"
            if outcome.finish_reason is not None:
                words += f", {outcome.finish_reason}"
        if traceparent := state.get("own_span") or state["traceparent"]:
            fields["traceparent"] = traceparent
            words += f", trace {traceparent}"
        extra = with_fields(**fields) | {"request_id": state["request_id"]}
        logger.log(self._level, "%s", words, extra=extra)
