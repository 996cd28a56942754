"""Rotary embedding settings from config.json, in every spelling; knows nothing of torch. describe_config.py calls it."""

from __future__ import annotations

from typing import NamedTuple

from yeoul.errors import ModelFileError
from yeoul.model_files.description import RopeScaling
from yeoul.model_files.typed_fields import TypedFields

DEFAULT_THETA = 10_000.0
GEMMA_GLOBAL_THETA = 1_000_000.0
SUPPORTED = "default, linear, dynamic, llama3 or yarn"


class Rope(NamedTuple):
    """``local_theta`` is the base of sliding layers (Gemma 3), None elsewhere."""

    theta: float
    scaling: RopeScaling
    local_theta: float | None


def read_rope(fields: TypedFields, gemma: bool) -> Rope:
    """Reads ``rope_parameters`` (also nested by attention kind) or ``rope_theta`` with ``rope_scaling``.

    Raises ModelFileError for a kind of scaling that this version does not know.
    """
    group = fields.group("rope_scaling") or fields.group("rope_parameters") or TypedFields(fields.origin, {})
    if fields.number("partial_rotary_factor", 1.0) != 1.0:
        raise fields.wrong("partial_rotary_factor", "1.0 (rotating a part of a head is not supported)")
    default_theta = fields.positive("rope_theta", GEMMA_GLOBAL_THETA if gemma else DEFAULT_THETA)
    if not gemma:
        full = group.group("full_attention") or group
        return Rope(full.positive("rope_theta", default_theta), _scaling(full, fields), None)
    nested = fields.group("rope_parameters") or group
    full = nested.group("full_attention") or group
    sliding = nested.group("sliding_attention") or TypedFields(fields.origin, {})
    if sliding.optional_text("rope_type") not in (None, "default"):
        raise sliding.wrong("rope_type", "default (sliding layers are not scaled)")
    local_theta = sliding.positive("rope_theta", fields.positive("rope_local_base_freq", 10_000.0))
    return Rope(full.positive("rope_theta", default_theta), _scaling(full, fields), local_theta)


def _scaling(group: TypedFields, fields: TypedFields) -> RopeScaling:
    kind = group.optional_text("rope_type") or group.optional_text("type") or "default"
    if group.number("partial_rotary_factor", 1.0) != 1.0:
        raise group.wrong("partial_rotary_factor", "1.0 (rotating a part of a head is not supported)")
    key, positions = "original_max_position_embeddings", fields.size("max_position_embeddings")
    original = fields.size(key, group.size(key, positions))
    match kind:
        case "default" | "dynamic":  # a dynamic base grows beyond max_position_embeddings, where we do not go
            return RopeScaling()
        case "linear":
            return RopeScaling(kind="linear", factor=group.positive("factor"))
        case "llama3":
            return RopeScaling(
                kind="llama3",
                factor=group.positive("factor"),
                original_max_position_embeddings=original,
                low_freq_factor=group.positive("low_freq_factor", 1.0),
                high_freq_factor=group.positive("high_freq_factor", 4.0),
            )
        case "yarn":
            return RopeScaling(
                kind="yarn",
                factor=group.positive("factor", positions / original),
                original_max_position_embeddings=original,
                attention_factor=group.optional_number("attention_factor"),
                beta_fast=group.positive("beta_fast", 32.0),
                beta_slow=group.positive("beta_slow", 1.0),
                mscale=group.optional_number("mscale"),
                mscale_all_dim=group.optional_number("mscale_all_dim"),
                truncate=group.boolean("truncate", True),
            )
        case _:
            raise ModelFileError(f"{group.origin}: rope scaling of kind {kind!r} is not supported; expected {SUPPORTED}")
