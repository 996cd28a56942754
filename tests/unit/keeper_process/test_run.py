"""What several web processes do not go together with, before anything is started."""

from __future__ import annotations

import msgspec
import pytest

from yeoul.config.models import ModelChoice
from yeoul.config.settings import FleetSettings, ModelSettings, ServerSettings, Settings, TransportSettings
from yeoul.errors import ConfigError
from yeoul.keeper_process.run import run_keeper

SEVERAL = Settings(model=ModelSettings(model="fake"), server=ServerSettings(api_server_count=2))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"transport": TransportSettings(engine_address="tcp://127.0.0.1:5555")}, "--engine-address"),
        ({"fleet": FleetSettings(model_ttl_seconds=60.0)}, "--model-ttl-seconds"),
    ],
)
def test_what_several_web_processes_do_not_go_together_with_is_said(changed, words):
    with pytest.raises(ConfigError, match=words):
        run_keeper(ModelChoice(settings=msgspec.structs.replace(SEVERAL, **changed)))
