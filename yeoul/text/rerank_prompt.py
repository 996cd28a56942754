"""RerankPrompt: writes a query and a document as a reranker was trained to read them; knows no tokenizer and no process."""

from __future__ import annotations

import math
import re

from yeoul.errors import ConfigError, InvalidRequestError, RequestFailedError
from yeoul.text.chat_template import ChatTemplate

_PLACES = re.compile(r"\{(query|document|instruction)\}")


class RerankPrompt:
    """From a text with ``{query}``, ``{document}`` and perhaps ``{instruction}``, or from a chat template.

    A chat template gets messages of the roles ``query`` and ``document``, and the instruction as ``instruction`` and, where
    it reads no such name, as a message of the role ``system``.

    Raises:
        ConfigError: it has no place for a query or a document.
    """

    def __init__(self, template: str | ChatTemplate, default_instruction: str) -> None:
        self._template = template
        self._default_instruction = default_instruction
        try:
            probe = self.render("a-query", "a-document", None)
        except (InvalidRequestError, RequestFailedError) as error:
            raise ConfigError(f"the rerank template does not work: {error.message}") from error
        if "a-query" not in probe or "a-document" not in probe:
            raise ConfigError(
                "the rerank template has no place for the query or the document: expected {query} and {document}, or Jinja"
                " that reads messages of the roles query and document"
            )

    def render(self, query: str, document: str, instruction: str | None, timeout_seconds: float = math.inf) -> str:
        """The prompt behind which the model answers. Errors as for ``ChatTemplate.render``."""
        if isinstance(self._template, str):
            texts = {"query": query, "document": document, "instruction": instruction or self._default_instruction}
            return _PLACES.sub(lambda place: texts[place[1]], self._template)
        messages = [{"role": "query", "content": query}, {"role": "document", "content": document}]
        variables = {"instruction": instruction} if instruction is not None else {}
        if self._template.unread(variables):
            messages.insert(0, {"role": "system", "content": instruction or ""})
        return self._template.render(messages, variables=variables, timeout_seconds=timeout_seconds)
