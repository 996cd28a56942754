"""The context that a model is served with; knows nothing of memory; called by both processes that start an engine."""

from __future__ import annotations

from yeoul.errors import ConfigError
from yeoul.model_files.description import ModelDescription


def choose_max_model_len(wanted: int | None, description: ModelDescription) -> int:
    """The longest request in tokens: what the user set, or all that the model was made for.

    Raises:
        ConfigError: more than the model's positions reach.
    """
    most = description.max_position_embeddings
    if wanted is not None and wanted > most:
        raise ConfigError(
            f"max_model_len is {wanted}, but this model has {most} positions; set at most that", param="max_model_len"
        )
    return wanted if wanted is not None else most
