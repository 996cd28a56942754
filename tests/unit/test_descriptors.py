"""Room for descriptors: what is wanted, as far as the system allows it, and a line in the log where that is less."""

from __future__ import annotations

import resource

import pytest

from yeoul.descriptors import allow_descriptors


@pytest.mark.parametrize(("soft", "hard", "expected"), [(64, 4096, 512), (1024, 4096, 1024), (64, 128, 128)])
def test_descriptors_are_allowed_as_far_as_the_system_lets_us(monkeypatch, caplog, soft, hard, expected):
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    allow_descriptors(512, "--a-flag")
    assert limits[-1] == (expected, hard)
    assert ("128 descriptors may be open, fewer than --a-flag needs, 512" in caplog.text) == (hard < 512)
