"""Which model a name means; knows no more of a model than its names. ``ModelFleet`` and the routes ask."""

from __future__ import annotations

from collections.abc import Sequence

from yeoul.errors import InvalidRequestError, NotFoundError
from yeoul.web_process.fleet.fleet_model import FleetModel

LATEST = ":latest"


def find_model(models: Sequence[FleetModel], name: str | None) -> FleetModel:
    """The model of this name; Ollama's clients put ``:latest`` behind it.

    Raises:
        NotFoundError: there is none.
        InvalidRequestError: no name, and several models.
    """
    names = [one for model in models for one in model.names]
    if not name and len(models) > 1:
        raise InvalidRequestError(f"the field 'model' is missing; this server has {', '.join(names)}", param="model")
    if name is None:
        return models[0]
    for wanted in (name, name.removesuffix(LATEST)):
        for model in models:
            if wanted in model.names:
                return model
    raise NotFoundError(
        f"the model {name[:200]!r} does not exist here; this server has {', '.join(names)}",
        param="model",
        code="model_not_found",
    )


def name_in(names: Sequence[str], name: str | None) -> str:
    """The one of a model's names that was asked for; the first where none was."""
    return names[0] if name is None else name if name in names else name.removesuffix(LATEST)
