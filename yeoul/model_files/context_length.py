"""The context that a model is served with; knows nothing of memory; called by both processes that start an engine."""

from __future__ import annotations

import logging

from yeoul.errors import ConfigError
from yeoul.model_files.description import ModelDescription

logger = logging.getLogger(__name__)


def choose_max_model_len(wanted: int | None, description: ModelDescription) -> int:
    """The longest request in tokens: what the user set, or all that the model was made for.

    Files with linear scaling disagree whether their number of positions is before it (Vicuna 16k, LongChat) or behind it
    (DeepSeek Coder, Gemma 3): less is the default, and who wants the other gets it.

    Raises:
        ConfigError: more than the model's positions reach.
    """
    said = description.max_position_embeddings
    scaling = description.rope_scaling
    most = int(said * max(scaling.factor, 1.0)) if scaling.kind == "linear" and description.architecture != "gemma3" else said
    if wanted is not None and wanted > most:
        raise ConfigError(
            f"max_model_len is {wanted}, but this model has {most} positions; set at most that", param="max_model_len"
        )
    if wanted is not None and wanted > said:
        logger.warning(
            "max_model_len is %d: the model's %d positions times %g, the factor of its linear rope scaling, if its file "
            "counts them before scaling; if not, answers to long prompts are bad",
            wanted,
            said,
            scaling.factor,
        )
    elif wanted is None and most > said:
        logger.info(
            "the context is %d; if the model's file counts positions before its rope scaling, up to %d can be had "
            "with --max-model-len",
            said,
            most,
        )
    return wanted if wanted is not None else said
