"""ModelCard: what Ollama's clients are told of a served model; knows no route.

Its names carry the tag ``:latest`` where they have none: clients look for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import msgspec

from yeoul.model_files.model_facts import ModelFacts, find_facts
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.fleet.fleet_model import FleetModel
from yeoul.web_process.ollama.line_format import written_time
from yeoul.web_process.server_context import LATEST

_NAMES = {"repetition_penalty": "repeat_penalty"}
_NEVER = "2318-01-01T00:00:00Z"  # when the model is unloaded


class ModelCard:
    """Of one model, whose files are here. Reads their headers when they are asked for first."""

    def __init__(self, model: FleetModel) -> None:
        self._model = model
        self._llm = model.llm
        self._facts: ModelFacts | None = None

    async def listed(self) -> list[dict[str, Any]]:
        """For ``/api/tags``: an entry a name."""
        facts = await self._find_facts()
        modified = {"modified_at": written_time(facts.modified_at), "capabilities": self._capabilities}
        return [self._entry(name, facts) | modified for name in self._model.names]

    async def running(self) -> list[dict[str, Any]]:
        """For ``/api/ps``, of one that is loaded: the same names. All memory that we count is the device's."""
        facts, llm = await self._find_facts(), self._llm
        cache_bytes = llm.ready.cache_bytes if llm.ready is not None else 0
        is_on_gpu = llm.ready is not None and any("cuda" in worker.device.lower() for worker in llm.ready.workers)
        num_bytes, left = facts.num_bytes + cache_bytes, self._model.seconds_left()
        about = {
            "size": num_bytes,
            "size_vram": num_bytes if is_on_gpu else 0,
            "expires_at": _NEVER if left is None else written_time(time.time() + left),
            "context_length": llm.limits.max_model_len,
        }
        return [self._entry(name, facts) | about for name in self._model.names]

    async def shown(self, name: str) -> dict[str, Any]:
        """For ``/api/show``."""
        facts, text = await self._find_facts(), self._llm.text
        parameters = msgspec.structs.asdict(text.sampling_defaults)
        return {
            "modelfile": f"# Served by Yeoul as {name}; it is made by `yeoul serve`, not by a Modelfile.\nFROM {name}\n",
            "parameters": "\n".join(
                f"{_NAMES.get(name, name)} {value}" for name, value in parameters.items() if value is not None
            ),
            "template": text.template_source or "",
            "details": self._details(facts),
            "model_info": self._info(facts),
            "capabilities": self._capabilities,
            "modified_at": written_time(facts.modified_at),
        }

    async def _find_facts(self) -> ModelFacts:
        if self._facts is None:
            self._facts = await asyncio.to_thread(find_facts, self._llm.model.files)
        return self._facts

    @property
    def _capabilities(self) -> list[str]:
        """What a request may ask for: Ollama's words. Some are known once the tokenizer is loaded."""
        can = ["completion", "embedding"]
        if not self._llm.served.is_loaded:
            return can
        text = self._llm.text
        if text.tokenizer.fill_markers is not None:
            can.append("insert")
        can += ["tools"] * (text.families.tools is not None)
        return can + ["thinking"] * (text.families.reasoning is not None)

    def _entry(self, name: str, facts: ModelFacts) -> dict[str, Any]:
        tagged = with_tag(name)
        digest = _digest(self._llm)
        return {"name": tagged, "model": tagged, "size": facts.num_bytes, "digest": digest, "details": self._details(facts)}

    def _details(self, facts: ModelFacts) -> dict[str, Any]:
        model = self._llm.model
        return {
            "parent_model": "",
            "format": model.files.file_format,
            "family": model.description.architecture,
            "families": [model.description.architecture],
            "parameter_size": _in_short(facts.num_parameters),
            "quantization_level": facts.weights_type,
            "context_length": self._llm.limits.max_model_len,
            "embedding_length": model.description.hidden_size,
        }

    def _info(self, facts: ModelFacts) -> dict[str, Any]:
        """By the keys of a GGUF file, whatever kind of file the model has."""
        model = self._llm.model
        shape, family = model.description, model.description.architecture
        return {
            "general.architecture": family,
            "general.basename": model.files.name,
            "general.parameter_count": facts.num_parameters,
            f"{family}.context_length": self._llm.limits.max_model_len,
            f"{family}.embedding_length": shape.hidden_size,
            f"{family}.block_count": shape.num_layers,
            f"{family}.feed_forward_length": shape.intermediate_size,
            f"{family}.attention.head_count": shape.num_heads,
            f"{family}.attention.head_count_kv": shape.num_kv_heads,
            f"{family}.vocab_size": shape.vocab_size,
        }


def with_tag(name: str) -> str:
    """The name as Ollama's clients look for it."""
    return name if ":" in name.rpartition("/")[2] else name + LATEST


def _digest(llm: AsyncLLM) -> str:
    """Sixty-four digits as a file's hash has them, of the model's fingerprint: the same as long as the answers are."""
    return hashlib.sha256((llm.fingerprint or llm.model.files.name).encode()).hexdigest()


def _in_short(number: int) -> str:
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= unit:
            return f"{number / unit:.3g}{letter}"
    return str(number)
