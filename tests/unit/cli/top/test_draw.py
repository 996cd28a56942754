"""What ``yeoul top`` shows, line by line."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.cli.top.scenes import LOG, NOW, STACK, STORY, TOPOLOGY, seen
from yeoul.cli.top.draw import draw
from yeoul.cli.top.seen import History, Point, Seen, Topology
from yeoul.cli.top.state import State, press, settled, wanted

DETAILS: dict[str, Any] = {"stack": STACK, "log": LOG, "request": STORY}
KEYS = ["up", "down", "pageup", "pagedown", "home", "end", "enter", "tab", "esc", *"slkapiyn?+-x"]


def history() -> History:
    found = History()
    found.add(
        Point(at=NOW - 300 + second, num_output_tokens=100, num_running=3, num_waiting=1, kv_usage=0.12, gap_p50=0.02)
        for second in range(300)
    )
    return found


def lines(state: State, server: Seen, width: int = 80, height: int = 24, **options: Any) -> list[str]:
    return [line.plain.rstrip() for line in draw(state, server, history(), width, height, NOW, **options).lines]


def found(state: State, **fields: Any) -> Seen:
    details = wanted(state)
    assert details is not None
    return seen(found=DETAILS[state.view], found_path=details.path, **fields)


def test_the_overview_says_what_runs():
    shown = lines(State(process="EngineCore", request="first"), seen())
    assert shown[0].startswith(" yeoul 9.9 at http://here:8000")
    assert shown[0].endswith("ready")
    assert shown[1].startswith("step 8,123 · computes 3 requests, 19 tokens, 12 ms")
    assert shown[2].startswith("tokens/s out      100  █")
    assert shown[4].startswith("run 3 · wait 1")
    assert shown[5].startswith("KV cache         12 %")
    assert shown[6].endswith("Worker_0   death    was killed by signal 9 (SIGKILL)")
    assert shown[8].split() == ["Web", "100", "running", "13", "%", "98", "MiB", "answers", "3", "requests"]
    assert shown[9].startswith("    EngineCore         200 running")
    assert shown[10].startswith("      Worker_0 ↻2      300 dead")
    assert shown[12].startswith("  first            running    1,234     56    85 ms    3.0 s")
    assert shown[13].endswith("place 2, ~2.4 s: n…")
    assert "q end" in shown[23]


def test_the_chosen_line_is_marked():
    screen = draw(State(process="Worker_0"), seen(), history(), 80, 24, NOW)
    (line,) = [line for line in screen.lines if "Worker_0 ↻2" in line.plain]
    assert any(str(span.style) == "reverse" for span in line.spans)


def test_many_processes_leave_room_for_requests_and_the_chosen_one_is_on_the_screen():
    server = seen()
    assert server.topology is not None
    workers = [{"name": f"Worker_{rank}", "parent": "EngineCore"} for rank in range(100)]
    topology = msgspec.convert({**TOPOLOGY, "processes": [*TOPOLOGY["processes"][:2], *workers]}, Topology)
    shown = lines(State(process="Worker_77"), msgspec.structs.replace(server, topology=topology))
    assert any("Worker_77" in line for line in shown)
    assert any("first" in line for line in shown)


def test_a_process_shows_its_threads_tasks_and_links():
    shown = lines(State(view="process", process="Web"), seen())
    assert any(
        line.startswith("  asyncio loop                  100 running") and line.endswith("runs tasks") for line in shown
    )
    assert any("OutputQueueLoop" in line for line in shown)
    assert any("requests (zmq)" in line and "12.5/s, 2.0 KiB/s, 4 wait" in line for line in shown)


def test_a_stack_has_functions_places_and_code():
    state = State(view="stack", process="Web")
    shown = lines(state, found(state))
    assert "MainThread (thread 100)" in shown
    assert any("Loop.run" in line and "uvloop/loop.py:7" in line for line in shown)
    assert any("run_server" in line and "yeoul/web_process/server.py:80" in line for line in shown)
    assert "      runner.run()" in shown
    assert "OutputQueueLoop (task)" in shown


def test_a_thread_without_python_is_said_to_be_a_librarys():
    state = State(view="stack", process="Web", thread=101)
    assert any("no Python" in line for line in lines(state, found(state)))


def test_a_log_shows_its_end_and_who_is_missing_at_its_beginning():
    state = State(view="log")
    assert lines(state, found(state))[22] == "line 59 of the log"
    shown = lines(State(view="log", scroll=1000), found(state))
    assert "Worker_0: is being started" in shown


def test_a_request_says_where_its_time_went_the_most_first():
    state = State(view="request", request="first")
    shown = lines(state, found(state))
    first, second = (next(place for place, line in enumerate(shown) if word in line) for word in ("own_decode", "queued"))
    assert first < second
    assert "█" * 8 in shown[first]
    assert any("+0.000 Web" in line and "read" in line for line in shown)


def test_a_server_that_is_away_is_said_to_be_and_what_is_old_is_said_to_be_old():
    away = seen(error="Connection refused", lost_since=NOW - 12, at=NOW - 13)
    shown = lines(State(), away)
    assert shown[0].endswith("not reached")
    assert shown[1] == "no answer since 12 s: Connection refused"
    assert shown[2] == "asking on; what follows is what it said 13 s ago"
    assert any("EngineCore" in line for line in shown)


def test_a_server_that_was_never_reached_shows_nothing_made_up():
    shown = lines(State(), Seen(url="http://here:1", error="Connection refused", lost_since=NOW))
    assert "no answer since 0 ms: Connection refused" in shown
    assert "nothing has been heard of this server yet" in shown
    assert not any("Web" in line for line in shown)


def test_details_that_cannot_be_had_say_why():
    state = State(view="stack", process="Worker_0")
    shown = lines(state, seen(found_path="/debug/stack/Worker_0", found_error="Worker_0 is being started"))
    assert shown[1] == "Worker_0 is being started"
    assert lines(state, seen(found_path="/debug/stack/Web", found=STACK))[1] == "asking ..."


def test_details_in_an_unknown_form_are_no_crash():
    state = State(view="stack")
    shown = lines(state, seen(found={"threads": 7}, found_path="/debug/stack/Web"))
    assert "does not know" in " ".join(shown)


def test_what_others_have_named_steers_no_terminal():
    state = State(view="log")
    evil = {"data": [{"level": "INFO", "text": "a\x1b[31mred\x07"}]}
    shown = lines(state, seen(found=evil, found_path="/debug/log?limit=500"))
    assert "a[31mred" in shown


def test_incidents_are_the_newest_first_and_what_came_together_is_shown_together():
    incidents = [{"at": NOW - 90 + 20 * place, "kind": "death", "words": f"number {place}"} for place in range(5)]
    server = seen(topology=msgspec.convert({**TOPOLOGY, "incidents": incidents}, Topology))
    shown = lines(State(view="incidents"), server)
    assert [line.split()[-1] for line in shown[2:7]] == ["4", "3", "2", "1", "0"]
    numbers = [line.split()[-1] for line in lines(State(), server) if " number " in line]
    assert numbers == ["2", "3", "4"]


def test_a_question_and_a_message_take_the_last_line():
    state, _ = press(State(process="Worker_0"), "k", seen())
    assert lines(state, seen())[-1] == " Kill Worker_0 (pid 300)? It is replaced; streams go on. y / n"
    assert lines(State(), seen(message="Worker_0 was killed"))[-1] == " Worker_0 was killed"


def test_a_plain_terminal_gets_plain_plots():
    shown = lines(State(view="plots"), seen(), is_plain=True)
    assert not set("".join(shown)) & set("▁▂▃▄▅▆▇█")
    assert any("@" in line for line in shown)


def test_plots_tell_what_is_and_what_was_at_most():
    shown = lines(State(view="plots"), seen())
    assert "tokens out a second: 100, at most 100" in shown
    assert "KV cache in use: 12 %, at most 12 %" in shown
    assert "between tokens, median: 20 ms, at most 20 ms" in shown
    assert "until the first token, median: nothing yet" in shown


@given(
    st.lists(st.sampled_from(KEYS), max_size=12),
    st.integers(1, 130),
    st.integers(1, 40),
    st.sampled_from(["none", "seen", "away"]),
)
def test_whatever_is_pressed_the_screen_is_full_and_nothing_sticks_out(keys: list[str], width: int, height: int, server: str):
    whole = {"none": Seen(url="u"), "seen": seen(), "away": seen(error="gone", lost_since=NOW)}[server]
    state = State()
    for key in keys:
        state, _ = press(settled(state, whole), key, whole)
    details = wanted(state)
    if details is not None and server != "none":
        whole = msgspec.structs.replace(whole, found=DETAILS[state.view], found_path=details.path)
    screen = draw(state, whole, history(), width, height, NOW)
    assert len(screen.lines) == height
    assert all(line.cell_len <= width for line in screen.lines)


@pytest.mark.parametrize("view", ["stack", "log", "request"])
def test_scrolling_ends_where_the_page_does(view):
    state = State(view=view, request="first", scroll=10_000)
    screen = draw(state, found(state), history(), 80, 6, NOW)
    assert 0 < screen.max_scroll < 200
