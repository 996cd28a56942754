"""What keys do in ``yeoul top``."""

from __future__ import annotations

import pytest

from tests.unit.cli.top.scenes import seen
from yeoul.cli.top.seen import Seen
from yeoul.cli.top.state import Action, Get, Post, Quit, State, press, settled, wanted


def after(*keys: str, state: State | None = None, server: Seen | None = None) -> tuple[State, list[Action]]:
    """Where keys lead from the start, and what they do."""
    state, server = state or State(), server or seen()
    actions = []
    for key in keys:
        state, action = press(settled(state, server), key, server)
        actions += [action] if action is not None else []
    return state, actions


def test_arrows_choose_a_process_and_stay_within_the_list():
    assert after("down")[0].process == "EngineCore"
    assert after("down", "down", "down", "down")[0].process == "Worker_0"
    assert after("down", "up", "up")[0].process == "Web"
    assert after("end")[0].process == "Worker_0"


def test_tab_gives_the_arrows_to_the_requests():
    state, _ = after("tab", "down")
    assert (state.pane, state.request, state.process) == ("requests", "second", "Web")


def test_enter_opens_and_escape_leads_back_step_by_step():
    state, _ = after("enter", "enter")
    assert (state.view, state.process, state.thread) == ("stack", "Web", 100)
    state, _ = after("esc", state=state)
    assert state.view == "process"
    state, _ = after("esc", "esc", state=state)
    assert state.view == "overview"


def test_what_is_opened_is_what_the_server_is_asked_for():
    assert wanted(State()) is None
    assert wanted(after("tab", "enter")[0]) == Get("/debug/requests/first")
    assert wanted(after("down", "s")[0]) == Get("/debug/stack/EngineCore")
    assert wanted(after("l")[0]) == Get("/debug/log?limit=500")
    assert wanted(after("down", "enter", "l")[0]) == Get("/debug/log?limit=500&process=EngineCore")
    assert wanted(after("l", "l")[0]) == Get("/debug/log?limit=500&process=Web")


def test_an_id_of_a_request_cannot_lead_to_another_path():
    assert wanted(State(view="request", request="../../x?y")) == Get("/debug/requests/..%2F..%2Fx%3Fy")


def test_a_process_is_killed_after_a_yes_alone():
    state, actions = after("down", "down", "k")
    assert state.question is not None
    assert "Worker_0 (pid 300)" in state.question.words
    assert not actions
    for key in ("n", "enter", "esc", "k", "q", "down"):
        answered, actions = after(key, state=state)
        assert (answered.question, answered.process, actions) == (None, "Worker_0", [])
    answered, actions = after("y", state=state)
    assert answered.question is None
    assert actions == [Post("/debug/kill/Worker_0", "Worker_0 was killed")]


def test_a_request_is_given_up_where_it_is_shown():
    assert after("a")[0].question is None
    _, actions = after("tab", "down", "a", "y")
    assert actions == [Post("/debug/requests/second/abort", "second is given up")]
    assert after("a", "y", state=State(view="request", request="first"))[1]


def test_a_thread_is_chosen_and_a_library_too_but_only_threads_have_stacks():
    state, _ = after("enter", "down", "s")
    assert state.thread == 101
    state, _ = after("enter", "end")
    assert state.row == 3, "two threads, a task, a link"
    assert after("enter", state=state)[0].view == "process"


def test_plots_show_more_and_less_time_within_bounds():
    assert after("p", "-")[0].span == 2
    assert after("p", "+", "+", "+")[0].span == 0
    assert after("p", "-", "-", "-", "-")[0].span == 3
    assert after("p", "p")[0].behind == State(request="first")


def test_a_log_is_scrolled_from_its_end():
    assert after("l", "up")[0].scroll == 1
    assert after("l", "up", "down", "down")[0].scroll == 0
    assert after("?", "down", "pagedown")[0].scroll == 11


@pytest.mark.parametrize("key", ["q", "ctrl-c"])
def test_the_end(key):
    assert after(key)[1] == [Quit()]
    assert after("enter", "enter", key)[1] == [Quit()]


def test_ctrl_c_ends_even_a_question():
    assert after("k", "ctrl-c")[1] == [Quit()]


def test_what_is_gone_is_not_chosen_any_longer():
    assert settled(State(process="Worker_7", request="old"), seen()) == State(process="Web", request="first")


def test_before_anything_was_heard_keys_harm_nothing():
    for key in ("enter", "s", "l", "k", "a", "tab", "down", "right", "end", "x"):
        state, actions = after("tab", key, "y", server=Seen())
        assert state == settled(state, Seen())
        assert len(actions) == (key == "k")
