"""SampledBody: what OpenAI's requests for an answer say of how it is sampled, on every route; knows no route."""

from __future__ import annotations

from typing import Annotated

from yeoul.messages.sampling import (
    AllowedTokenIds,
    ForcedTokenIds,
    FrequencyPenalty,
    IgnoresEos,
    MinP,
    MinTokens,
    PresencePenalty,
    RepetitionPenalty,
    Seed,
    StopStrings,
    StopTokenIds,
    Temperature,
    TopK,
    TopP,
)
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import ServedBody


class SampledBody(ServedBody, kw_only=True):
    """OpenAI's fields, and those that vLLM added."""

    stream: Annotated[bool | None, says("Whether the answer comes piece by piece, as server-sent events.")] = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    presence_penalty: PresencePenalty | None = None
    frequency_penalty: FrequencyPenalty | None = None
    seed: Seed | None = None
    stop: str | StopStrings | None = None

    top_k: TopK | None = None
    min_p: MinP | None = None
    repetition_penalty: RepetitionPenalty | None = None
    min_tokens: MinTokens | None = None
    ignore_eos: IgnoresEos | None = None
    stop_token_ids: StopTokenIds | None = None
    allowed_token_ids: AllowedTokenIds | None = None
    forced_token_ids: ForcedTokenIds | None = None

    @property
    def stop_strings(self) -> list[str] | None:
        """``stop``, of which one may come without a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop
