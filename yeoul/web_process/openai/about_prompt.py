"""AboutPrompt: what an answer tells of its prompt where the request asks: tokens, text, and what the model thinks of them.

The names are vLLM's. Knows no route; the formats of completions and chats put it into their own place.
"""

from __future__ import annotations

from yeoul.messages.outputs import TokenLogprobs
from yeoul.text.tokenizer import Tokenizer
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.http.writing import encode_list
from yeoul.web_process.openai.json_writing import LOWEST_LOGPROB, encode_json
from yeoul.web_process.openai.schemas.sampling_fields import SamplingFields


class AboutPrompt:
    """Of one request."""

    def __init__(self, body: SamplingFields, stream: RequestStream, tokenizer: Tokenizer) -> None:
        self._num_logprobs = body.prompt_logprobs
        self._has_token_ids = body.return_token_ids is True
        self._has_text = body.return_prompt_text is True
        self._is_stream = body.stream is True
        self._prompts = stream.prompts
        self._tokenizer = tokenizer

    def fields(self, output: GenerationOutput) -> bytes:
        """The inner of a JSON object, with a comma behind each field. Whole answers always have ``prompt_logprobs``."""
        written = b""
        if self._num_logprobs is not None:
            entries = (
                b"null" if entry is None else encode_json(self._by_token_id(entry)) for entry in output.prompt_logprobs
            )
            written += b'"prompt_logprobs":[%b],' % b",".join(entries)
        elif not self._is_stream:
            written += b'"prompt_logprobs":null,'
        token_ids = self._prompts[output.prompt_index]
        if self._has_token_ids:
            written += b'"prompt_token_ids":%b,' % encode_list(token_ids)
        if self._has_text:
            written += b'"prompt_text":%b,' % encode_json(self._tokenizer.decode(token_ids, skip_special_tokens=False))
        return written

    def _by_token_id(self, entry: TokenLogprobs) -> dict[int, object]:
        """What is known of a token of the prompt and of the likeliest in its place."""
        reports: dict[int, object] = {}
        for place in range(min(1 + (self._num_logprobs or 0), len(entry.token_ids))):
            token_id = entry.token_ids[place]
            reports.setdefault(
                token_id,
                {
                    "logprob": max(entry.logprobs[place], LOWEST_LOGPROB),
                    "rank": place or entry.rank,
                    "decoded_token": self._tokenizer.token_text(token_id),
                },
            )
        return reports
