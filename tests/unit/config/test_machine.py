"""Where Yeoul runs."""

import pytest

from yeoul.config.machine import check_machine
from yeoul.errors import ConfigError


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_linux_on_both_processors_is_supported(machine):
    check_machine("linux", machine)


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("win32", "AMD64"), ("linux", "riscv64")])
def test_elsewhere_the_start_says_so(system, machine):
    with pytest.raises(ConfigError, match=f"this is {system} on {machine}"):
        check_machine(system, machine)
