"""EmbeddingsFormat: how an answer of ``/v1/embeddings`` is written; knows no engine and no socket."""

from __future__ import annotations

from collections.abc import Iterable

from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.portions import Portions
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.engine.vectors import as_base64, as_numbers, shortened
from yeoul.web_process.openai.json_writing import encode_json
from yeoul.web_process.openai.schemas.texts import EmbeddingRequest


class EmbeddingsFormat:
    """One answer, with a vector for each input."""

    work_a_character = 0

    def __init__(self, body: EmbeddingRequest, stream: Portions, *, model: ServedName) -> None:
        self._encoding_format = body.encoding_format
        self._dimensions = body.dimensions
        self._num_tokens = stream.num_prompt_tokens
        self._model = model

    def whole(self, outputs: Iterable[GenerationOutput]) -> bytes:
        """The answer as one JSON object."""
        data = (
            encode_json({"object": "embedding", "index": index, "embedding": self._written(output)})
            for index, output in enumerate(outputs)
        )
        usage = encode_json({"prompt_tokens": self._num_tokens, "total_tokens": self._num_tokens})
        name = encode_json(self._model.name)
        return b'{"object":"list","data":[%b],"model":%b,"usage":%b}' % (b",".join(data), name, usage)

    def _written(self, output: GenerationOutput) -> list[float] | str:
        vector = shortened(output.vector_bytes, self._dimensions)
        return as_base64(vector) if self._encoding_format == "base64" else as_numbers(vector)
