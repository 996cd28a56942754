"""UnknownFields: what becomes of a field that a struct does not have: passed over and named, or refused; knows no route.

Routers and frameworks add fields to every body, so an unknown one is passed over. But what would change the answer if it
were honoured is refused, by ``STEERING``: names of OpenAI's API and of other servers', each with the values that ask for
nothing. ``parse_body`` calls it.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from yeoul.config.fields import nearest
from yeoul.errors import InvalidRequestError

if TYPE_CHECKING:
    from yeoul.web_process.http.request_body import RequestBody

logger = logging.getLogger(__name__)

MAX_NUM_UNKNOWN = 256  # different names
MAX_NAME_CHARACTERS = 256
_MAX_NUM_NAMED = 16  # in the header
_MAX_NUM_LOGGED = 256  # in a server's life

# What asks for nothing, besides null -> names.
_STEERING: list[tuple[tuple[object, ...], str]] = [
    (
        ("", [], False),
        """format tools functions images documents chat_template messages prompt_embeds logits_processors
        logit_processors custom_logit_processor banned_tokens custom_token_bans ban_tokens stop_regex
        negative_prompt samplers sampler_order lora lora_path lora_request adapter_id continue_final_message
        use_beam_search early_stopping watermark return_token_ids return_prompt_text return_hidden_states no_stop_trim
        prompt_logprobs echo suffix instruction prompt_name prefix partial""",
    ),
    (("", [], {}, False), "grammar json_schema logit_bias"),
    (({},), "options kv_transfer_params vllm_xargs custom_params repetition_detection"),
    (
        (),
        """truncate_prompt_tokens thinking_token_budget thinking_budget enable_thinking
        thinking reasoning audio web_search_options min_new_tokens""",
    ),
    (
        (0,),
        """mirostat dry_multiplier xtc_probability dynatemp_range smoothing_factor penalty_alpha top_a
        no_repeat_ngram_size diversity_penalty epsilon_cutoff eta_cutoff n_probs""",
    ),
    (
        (1,),
        """typical_p typical tfs_z tfs length_penalty repeat_penalty rep_pen guidance_scale cfg_scale num_beams best_of
        encoder_repetition_penalty""",
    ),
    ((-1,), "n_predict num_predict max_new_tokens"),
    ((-1, 0), "top_n_sigma nsigma"),
    ((True,), "do_sample include_reasoning normalize spaces_between_special_tokens"),
    (("none", "auto"), "tool_choice function_call"),
    ((["text"],), "modalities"),
    (("disabled",), "truncation"),
]
STEERING = {name: neutral for neutral, names in _STEERING for name in names.split()}
_INSTEAD = {
    "repeat_penalty": "repetition_penalty", "rep_pen": "repetition_penalty", "n_predict": "max_tokens",
    "num_predict": "max_tokens", "max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens", "n_probs": "logprobs",
    "no_stop_trim": "include_stop_str_in_output", "do_sample": "temperature", "enable_thinking": "chat_template_kwargs",
    "thinking": "chat_template_kwargs", "reasoning": "reasoning_effort", "format": "response_format",
}  # fmt: skip

# Of OpenAI's own platform: they never had to do with the answer here, and no server that is strict refuses them.
PLATFORM_FIELDS = frozenset(
    {
        "user", "metadata", "prediction", "prompt_cache_key", "prompt_cache_retention",
        "safety_identifier", "service_tier", "store", "verbosity",
    }
)  # fmt: skip

_logged: set[str] = set()


class UnknownFields:
    """Of one request. With ``is_strict`` none is passed over but those of OpenAI's platform."""

    def __init__(self, *, is_strict: bool = False) -> None:
        self.names: dict[str, None] = {}
        self._is_strict = is_strict

    def pass_over(self, fields: dict[str, Any], model: type[RequestBody], place: str = "") -> None:
        """Takes note of what ``model`` and its inner structs do not know in ``fields``. ``place`` is where those stand.

        Raises:
            InvalidRequestError: there is one that would change the answer, or, if strict, any; too many; too long a name.
        """
        for name in sorted(fields.keys() - _names_of(model)):
            if fields[name] is not None or len(name) > MAX_NAME_CHARACTERS:
                self._pass_over(name, fields[name], model, place)
        for field, inner in model.inner.items():
            if field in fields:
                for index, found in _objects_in(fields[field]):
                    self.pass_over(found, inner, f"{place}{field}{index}.")

    def note(self, *names: str) -> None:
        """These have no effect, by their whole names; the first time that a server meets one, the log says so."""
        for name in names:
            self._note(name)

    @property
    def header(self) -> str:
        """The names for ``yeoul-ignored-fields``, as far as they fit; empty where there are none."""
        named = [_safe(name) for name in list(self.names)[:_MAX_NUM_NAMED]]
        return ", ".join(named + ["..."] * (len(self.names) > _MAX_NUM_NAMED))

    def _note(self, name: str) -> None:
        general = re.sub(r"\.\d+\.", ".", name)  # messages.role, not messages.17.role
        if general in self.names:
            return
        if len(self.names) >= MAX_NUM_UNKNOWN:
            raise InvalidRequestError(f"more than {MAX_NUM_UNKNOWN} fields are not known here; send fewer")
        self.names[general] = None
        if general not in _logged and len(_logged) < _MAX_NUM_LOGGED:
            _logged.add(general)
            logger.warning("a request has the field %s, which has no effect here (said once)", _safe(general))

    def _pass_over(self, name: str, value: object, model: type[RequestBody], place: str) -> None:
        path = place + name
        if len(name) > MAX_NAME_CHARACTERS:
            raise InvalidRequestError(
                f"the name of a field has {len(name)} characters; expected at most {MAX_NAME_CHARACTERS}",
                param=f"{path[:57]}...",
            )
        if name in STEERING and value not in STEERING[name]:
            instead = f"; use {_INSTEAD[name]}" if name in _INSTEAD else ""
            raise InvalidRequestError(
                f"{path} is not supported and would change the answer: leave it out{instead}", param=path
            )
        if self._is_strict and (place or name not in PLATFORM_FIELDS):
            raise InvalidRequestError(
                f"the field {path!r} is not known here.{nearest(name, model.__struct_fields__)}", param=path
            )
        self._note(path)


@functools.cache
def _names_of(model: type[RequestBody]) -> frozenset[str]:
    return frozenset(model.__struct_fields__)


def _objects_in(value: object) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        yield "", value
    elif isinstance(value, list):
        yield from ((f".{index}", entry) for index, entry in enumerate(value) if isinstance(entry, dict))


def _safe(name: str) -> str:
    """A name as it may stand in a header or a line of a log."""
    return re.sub(r"[^\w.-]", "?", name, flags=re.ASCII)[:64]
