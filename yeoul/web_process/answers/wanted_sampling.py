"""wanted_sampling(): the sampling parameters of a request, whatever API it came by; knows no field's spelling."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.tokenizer_source import SamplingDefaults


def wanted_sampling(said: Mapping[str, object], defaults: SamplingDefaults) -> SamplingParams:
    """What the request says (null is nothing), else what the model's authors recommend, else OpenAI's defaults."""
    wanted = msgspec.structs.asdict(defaults) | {name: value for name, value in said.items() if value is not None}
    names = SamplingParams.__struct_fields__
    return SamplingParams(**{name: wanted[name] for name in names if wanted.get(name) is not None})
