"""Renders a conversation with a model's own Jinja template; knows no tokenizer. The web process calls it for every chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import jinja2

from yeoul.errors import ConfigError, InvalidRequestError
from yeoul.model_files.tokenizer_source import TokenizerSource
from yeoul.text.template_messages import adapt_messages, reads_content_parts
from yeoul.text.template_sandbox import TemplateSandbox, render_limited

_RESERVED_NAMES = frozenset({"messages", "tools", "add_generation_prompt"})


class ChatTemplate:
    """A model's chat template, compiled when it is first used.

    Args:
        template: the Jinja source; None for a model that has none.
        tool_template: the source to use where tools are given; None where ``template`` is for both.
        variables: names that the template sees besides the conversation, such as ``bos_token``.
    """

    def __init__(
        self, template: str | None, *, tool_template: str | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        self._template = template
        self._tool_template = tool_template
        self._variables = dict(variables or {})

    @classmethod
    def load(cls, source: TokenizerSource, override: str | None = None) -> ChatTemplate:
        """The template of the model's files, or ``override``: Jinja source, or the path of a file of it.

        Raises:
            ConfigError: ``override`` is neither.
        """
        named = {"bos_token": source.bos_token, "eos_token": source.eos_token}
        variables = source.special_tokens | {name: token for name, token in named.items() if token is not None}
        if override is None:
            return cls(source.chat_template, tool_template=source.tool_chat_template, variables=variables)
        template = cls(_read_override(override), variables=variables)
        try:
            template._for_all  # noqa: B018  (a mistake in a flag shows at start)
        except InvalidRequestError as error:
            raise ConfigError(f"--chat-template: {error.message}") from error
        return template

    @property
    def is_given(self) -> bool:
        """Whether there is a template at all."""
        return self._template is not None

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        /,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """The prompt for ``messages``; it holds its special tokens, a BOS too, so encode it without adding more.

        ``variables`` are the template's own switches (``enable_thinking``). A message's ``content`` may be a list of text
        parts: a template that only knows strings gets them joined by line breaks.

        Raises:
            InvalidRequestError: the model has no template, or its template refuses or cannot render these messages.
        """
        if reserved := _RESERVED_NAMES & variables.keys():
            raise InvalidRequestError(
                f"chat_template_kwargs sets {min(reserved)}, which is the request's own field", param="chat_template_kwargs"
            )
        compiled = self._for_tools if tools and self._tool_template is not None else self._for_all
        return compiled.render(
            messages, {**self._variables, **variables, "tools": tools or None, "add_generation_prompt": add_generation_prompt}
        )

    @cached_property
    def _for_all(self) -> _CompiledTemplate:
        if self._template is None:
            raise InvalidRequestError(
                "this model has no chat template: start the server with --chat-template FILE, or use /v1/completions",
                param="messages",
            )
        return _CompiledTemplate(self._template)

    @cached_property
    def _for_tools(self) -> _CompiledTemplate:
        return _CompiledTemplate(self._tool_template or "")


class _CompiledTemplate:
    """One template in its sandbox."""

    def __init__(self, source: str) -> None:
        sandbox = TemplateSandbox()
        try:
            self._reads_parts = reads_content_parts(sandbox.parse(source))
            self._template = sandbox.from_string(source)
        except Exception as error:  # nesting too deep for jinja or for Python, numbers of ten thousand digits, ...
            raise InvalidRequestError(f"the chat template cannot be compiled: {error}", param="messages") from error

    def render(self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
        """Raises InvalidRequestError where the template refuses, fails, or goes over a limit."""
        adapted = adapt_messages(messages, reads_parts=self._reads_parts)
        try:
            return render_limited(self._template, {**variables, "messages": adapted})
        except jinja2.TemplateError as error:
            raise InvalidRequestError(f"the chat template refuses this conversation: {error}", param="messages") from error
        except Exception as error:  # a template is code: whatever it raises is its answer to these messages
            raise InvalidRequestError(
                f"the chat template cannot render this conversation: {type(error).__name__}: {error}", param="messages"
            ) from error


def _read_override(override: str) -> str:
    if "{" in override or "\n" in override:
        return override
    try:
        with open(override, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--chat-template: {override!r} is neither a template nor a file that can be read: {error}"
        ) from error
