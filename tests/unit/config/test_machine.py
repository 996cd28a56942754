"""Where Yeoul runs."""

import platform

import pytest

from yeoul.config.machine import check_machine
from yeoul.errors import ConfigError


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_linux_on_both_processors_is_supported(monkeypatch, machine):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    check_machine()


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Windows", "AMD64"), ("Linux", "riscv64")])
def test_elsewhere_the_start_says_so(monkeypatch, system, machine):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(ConfigError, match=f"this is {system} on {machine}"):
        check_machine()
