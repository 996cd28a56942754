"""How values are written as JSON in every kind of answer; knows no answer."""

from __future__ import annotations

import msgspec

encode_json = msgspec.json.Encoder().encode

# OpenAI's stand-in for the logarithm of a probability that rounds to nothing.
LOWEST_LOGPROB = -9999.0
