"""SampledBody: what OpenAI's requests for an answer say of how it is sampled, on every route; knows no route."""

from __future__ import annotations

from yeoul.messages.sampling import (
    AllowedTokenIds,
    Count,
    ForcedTokenIds,
    Int64,
    MinP,
    Penalty,
    RepetitionPenalty,
    StopStrings,
    StopTokenIds,
    Temperature,
    TopK,
    TopP,
)
from yeoul.web_process.http.request_body import ServedBody


class SampledBody(ServedBody, kw_only=True):
    """OpenAI's fields, and those that vLLM added."""

    stream: bool | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Int64 | None = None
    stop: str | StopStrings | None = None

    top_k: TopK | None = None
    min_p: MinP | None = None
    repetition_penalty: RepetitionPenalty | None = None
    min_tokens: Count | None = None
    ignore_eos: bool | None = None
    stop_token_ids: StopTokenIds | None = None
    allowed_token_ids: AllowedTokenIds | None = None
    forced_token_ids: ForcedTokenIds | None = None

    @property
    def stop_strings(self) -> list[str] | None:
        """``stop``, of which one may come without a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop
