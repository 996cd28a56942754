"""Renders a conversation with a model's own Jinja template; knows no tokenizer. The web process calls it for every chat."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2
import jinja2.meta

from yeoul.errors import ConfigError, InvalidRequestError, RequestFailedError
from yeoul.model_files.tokenizer_source import TokenizerSource
from yeoul.text.message_order import find_message_order, order_messages
from yeoul.text.template_messages import adapt_messages, find_content_forms, without_developers
from yeoul.text.template_sandbox import TemplateRefusalError, TemplateSandbox, TemplateTimeoutError, render_limited

_RESERVED_NAMES = frozenset({"messages", "tools", "add_generation_prompt", "chat_template", "self"})
_PROBE_SECONDS = 1.0
# Stands behind the message that is to be continued, so that its end is found whatever the template does to it.
_END_OF_MESSAGE = "\uf8ff<the message goes on here>\uf8ff"
_PROBE_TOOLS = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object"}}}]

logger = logging.getLogger(__name__)


class ChatTemplateTimeoutError(InvalidRequestError):
    """The template did not render this conversation in time."""


class ChatTemplate:
    """A model's chat templates, compiled.

    Args:
        template: the Jinja source; None for a model that has none.
        tool_template: the source to use where tools are given; None where ``template`` is for both.
        variables: names that the template sees besides the conversation, such as ``bos_token``.
    """

    def __init__(
        self, template: str | None, *, tool_template: str | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        self._variables = dict(variables or {})
        self._sources = template, template if tool_template is None else tool_template
        self._for_all = None if template is None else _CompiledTemplate(template, self._variables)
        self._for_tools = self._for_all
        if tool_template is not None:
            self._for_tools = _CompiledTemplate(tool_template, self._variables | {"tools": _PROBE_TOOLS})

    @classmethod
    def load(cls, source: TokenizerSource, override: str | None = None) -> ChatTemplate:
        """The template of the model's files, or ``override``: Jinja source, or the path of a file of it.

        A template of the model's own that does not work is said in the log, and fails chats alone.

        Raises:
            ConfigError: ``override`` is neither, or does not work.
        """
        named = {"bos_token": source.bos_token, "eos_token": source.eos_token}
        variables = source.special_tokens | {name: token for name, token in named.items() if token is not None}
        if override is not None:
            template = cls(read_template(override, "--chat-template"), variables=variables)
            if template.fault is not None:
                raise ConfigError(f"--chat-template: the chat template {template.fault}")
            return template
        template = cls(source.chat_template, tool_template=source.tool_chat_template, variables=variables)
        if template.fault is not None:
            logger.error(
                "the chat template in %s %s: chats will fail; --chat-template FILE takes another",
                source.origin,
                template.fault,
            )
        return template

    @property
    def source(self) -> str | None:
        """The Jinja source for chats without tools; None where there is none."""
        return self._sources[0]

    @property
    def tool_source(self) -> str | None:
        """The Jinja source for chats with tools."""
        return self._sources[1]

    @property
    def fault(self) -> str | None:
        """Why the template renders nothing, whatever the conversation; None if it works."""
        faults = (template.fault for template in (self._for_all, self._for_tools) if template is not None)
        return next((fault for fault in faults if fault is not None), None)

    def unread(self, names: Iterable[str]) -> set[str]:
        """Those of these variables that no template reads."""
        templates = [template for template in (self._for_all, self._for_tools) if template is not None]
        return set(names).difference(*(template.names for template in templates))

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
        timeout_seconds: float = math.inf,
    ) -> str:
        """The prompt for ``messages``; it holds its special tokens, a BOS too, so encode it without adding more.

        ``variables`` are the template's own switches (``enable_thinking``). A message's ``content`` may be a text or a list
        of text parts; the template gets the form that it reads. With ``continue_final_message`` the prompt ends with the
        text of the last message, which stays open.

        Raises:
            InvalidRequestError: the model has no template, or its template refuses or cannot render these messages, or
                writes no end of the last one.
            ChatTemplateTimeoutError: it is one, for a template that takes longer than ``timeout_seconds``.
            RequestFailedError: the template renders nothing, whatever the conversation.
        """
        if reserved := _RESERVED_NAMES & (variables or {}).keys():
            raise InvalidRequestError(f"chat_template_kwargs may not set {min(reserved)!r}", param="chat_template_kwargs")
        template = self._for_tools if tools else self._for_all
        if template is None:
            raise InvalidRequestError(
                "this model has no chat template: start the server with --chat-template FILE, or use /v1/completions",
                param="messages",
            )
        context = {**(variables or {}), "tools": tools or None, "add_generation_prompt": add_generation_prompt}
        if not continue_final_message:
            return template.render(messages, context, timeout_seconds)
        prompt = template.render([*messages[:-1], _with_marked_end(messages[-1])], context, timeout_seconds)
        end = prompt.rfind(_END_OF_MESSAGE)
        if end < 0:
            raise InvalidRequestError(
                "this model's chat template does not write the text of the last message, which so cannot be continued",
                param="continue_final_message",
            )
        return prompt[:end]


def _with_marked_end(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content") or ""
    if isinstance(content, str):
        return {**message, "content": content + _END_OF_MESSAGE}
    last = content[-1]
    return {**message, "content": [*content[:-1], {**last, "text": f"{last.get('text') or ''}{_END_OF_MESSAGE}"}]}


class _CompiledTemplate:
    """One template in its sandbox. ``fault`` says why it works for no conversation."""

    def __init__(self, source: str, variables: Mapping[str, Any]) -> None:
        self._variables = variables
        self._knows_developer = "developer" in source
        self.fault: str | None = None
        self.names: frozenset[str] = frozenset()
        try:
            sandbox = TemplateSandbox()
            self._template = sandbox.compiled(source)
            self.names = frozenset(jinja2.meta.find_undeclared_variables(sandbox.parse(source)))
        except Exception as error:  # nesting too deep for jinja or for Python, numbers of ten thousand digits, ...
            self.fault = f"cannot be compiled: {error}"
            return
        probes = _Probes(self._template, variables)
        self._forms = find_content_forms(probes.render)
        self.fault = probes.fault
        self._order = find_message_order(lambda messages: probes.render(adapt_messages(messages, self._forms)))

    def render(self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any], timeout_seconds: float) -> str:
        """Raises InvalidRequestError where the template refuses, fails, or goes over a limit."""
        if self.fault is not None:
            raise RequestFailedError(f"the model's chat template {self.fault}; use /v1/completions")
        ordered = order_messages(messages if self._knows_developer else without_developers(messages), self._order)
        context = {**self._variables, **variables, "messages": adapt_messages(ordered, self._forms)}
        try:
            return render_limited(self._template, context, timeout_seconds)
        except TemplateTimeoutError as error:
            raise ChatTemplateTimeoutError(
                f"the chat template {error}; shorten the conversation", param="messages"
            ) from error
        except jinja2.TemplateError as error:
            raise InvalidRequestError(f"the chat template refuses this conversation: {error}", param="messages") from error
        except Exception as error:  # a template is code: whatever it raises is its answer to these messages
            raise InvalidRequestError(
                f"the chat template cannot render this conversation: {type(error).__name__}: {error}", param="messages"
            ) from error


class _Probes:
    """Small conversations that a template is tried on. ``fault`` is set where all of them fail, and not by its own word."""

    def __init__(self, template: jinja2.Template, variables: Mapping[str, Any]) -> None:
        self._template = template
        self._variables = {"tools": None, "add_generation_prompt": True, **variables}
        self._is_slow = False
        self._works = False
        self._error: str | None = None

    @property
    def fault(self) -> str | None:
        """None where the template may work for some conversation."""
        return None if self._works or self._error is None else f"cannot render any conversation: {self._error}"

    def render(self, messages: list[dict[str, Any]]) -> str:
        """What the template makes of them; nothing where it fails."""
        if self._is_slow:
            return ""
        text = ""
        try:
            text = render_limited(self._template, {**self._variables, "messages": messages}, _PROBE_SECONDS)
            self._works = True
        except TemplateTimeoutError:
            self._works = self._is_slow = True
        except TemplateRefusalError:
            self._works = True
        except Exception as error:
            self._error = f"{type(error).__name__}: {error}"
        return text


def read_template(said: str, flag: str) -> str:
    """The template that a flag says, itself or as the path of its file.

    Raises:
        ConfigError: it is neither.
    """
    if "{" in said or "\n" in said:
        return said
    try:
        with open(said, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{flag}: {said!r} is neither a template nor a file that can be read: {error}") from error
