"""Progress bars, on a terminal and elsewhere."""

import pytest

from yeoul.progress import download_bars, prompt_bar


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def no_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "JUPYTER_COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("terminal")
def test_a_download_has_a_bar_for_each_thing(capsys):
    with download_bars() as show:
        show("fetching a", 0, 1000)
        show("fetching a", 500, 1000)
        show("fetching b", 0, 0)
        show("fetching b", 1000, 1000)
        show("fetching a", 1000, 1000)
        show("verifying a", 10, 1000)
        show("verifying a", 1000, 1000)
    err = capsys.readouterr().err
    assert all(label in err for label in ("fetching a", "fetching b", "verifying a", "1.0/1.0 kB"))


@pytest.mark.usefixtures("terminal")
def test_nothing_fetched_shows_nothing(capsys):
    with download_bars():
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("no_terminal")
def test_elsewhere_nothing_is_drawn(capsys):
    with download_bars() as show:
        show("fetching a", 500, 1000)
    with prompt_bar("prompts", 2) as count:
        count(10)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("terminal")
def test_a_bar_over_prompts_counts_tokens(capsys):
    with prompt_bar("requests", 2) as count:
        count(10)
        count(32)
    err = capsys.readouterr().err
    assert "requests, 42 tokens" in err
    assert "2/2" in err
