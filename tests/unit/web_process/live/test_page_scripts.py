"""The page's scripts that know no browser, run by node: what a stream adds up to, and where the boxes stand."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from yeoul.web_process.live.page.page_files import FOLDER

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here, which runs JavaScript")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts as node reads them: as modules."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "package.json").write_text('{"type": "module"}')
    for name in ("answer_reader.js", "hierarchy_layout.js", "words.js"):
        shutil.copy(FOLDER / name, folder)
    return folder


def run(folder: Path, script: str) -> Any:
    (folder / "script.js").write_text(script)
    done = subprocess.run(["node", str(folder / "script.js")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def chunk(text: str = "", *, index: int = 0, finish: str | None = None, **delta: object) -> dict[str, Any]:
    choice = {"index": index, "delta": {"content": text, **delta}, "logprobs": None, "finish_reason": finish}
    return {"id": "c", "seed": 7, "choices": [choice]}


def read(folder: Path, expression: str, first: list[dict[str, Any]], second: list[dict[str, Any]] | None = None) -> Any:
    script = f"""
    import {{ Answer, difference }} from "./answer_reader.js";
    const read = (chunks) => {{
      const answer = new Answer(2);
      chunks.forEach((chunk) => answer.take(chunk));
      return answer;
    }};
    const first = read({json.dumps(first)}), second = read({json.dumps(second or [])});
    console.log(JSON.stringify({expression}));
    """
    return run(folder, script)


def test_chunks_add_up_to_an_answer_for_each_choice(folder: Path):
    part = {"index": 0, "function": {"arguments": '{"city":'}}
    chunks = [
        chunk("A riv"), chunk("Ein", index=1), chunk("er", finish="stop"), chunk(index=1, reasoning_content="hm"),
        chunk(index=1, tool_calls=[{"index": 0, "id": "call", "function": {"name": "weather", "arguments": ""}}]),
        chunk(index=1, tool_calls=[part]), chunk(index=1, finish="tool_calls"),
    ]  # fmt: skip
    seen = read(
        folder, "[first.seed, first.choices.map((one) => [one.text, one.reasoning, one.calls, one.finishReason])]", chunks
    )
    call = {"id": "call", "name": "weather", "arguments": '{"city":'}
    assert seen == [7, [["A river", "", [], "stop"], ["Ein", "hm", [call], "tool_calls"]]]


def test_a_character_stands_where_its_last_byte_came(folder: Path):
    tokens = [
        {"bytes": list(piece), "logprob": -1, "top_logprobs": []} for piece in ("여".encode()[:2], "여".encode()[2:] + b"!")
    ]
    first = chunk()
    first["choices"][0]["logprobs"] = {"content": tokens}
    assert read(folder, "first.choices[0].tokens.map((token) => token.text)", [first]) == ["", "여!"]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ([chunk("여울 runs", finish="stop")], None),
        ([chunk("여"), chunk("울 runs"), chunk(finish="stop")], None),
        ([chunk("여울 rains", finish="stop")], "the text from byte 9 on"),
        ([chunk("여울", finish="stop")], "the text from byte 7 on"),
        ([chunk("여울 runs", finish="length")], "how it ended"),
        ([chunk("여울 runs", reasoning_content="hm", finish="stop")], "the thoughts from byte 1 on"),
    ],
)
def test_two_answers_are_the_same_however_they_came_or_it_is_said_where_they_differ(folder, second, said):
    assert (
        read(folder, "difference(first.choices[0], second.choices[0])", [chunk("여울 runs", finish="stop")], second) == said
    )


def process(name: str, parts: list[tuple[str, str | None]], threads: list[tuple[str, str | None]]) -> dict[str, Any]:
    return {
        "name": name, "state": "running", "tasks": [{"name": "t", "part": None, "doing": "", "state": "waiting", "count": 3}],
        "parts": [{"name": part, "inside": inside} for part, inside in parts],
        "threads": [
            {"name": thread, "part": part, "state": "sleeping", "doing": "waits", "is_library": False, "cpu_share": 0.0}
            for thread, part in threads
        ] + [{"name": "ZMQbg", "part": None, "state": "sleeping", "doing": "", "is_library": True, "cpu_share": 0.0}],
    }  # fmt: skip


@pytest.mark.parametrize(("num_workers", "kind"), [(1, "exchange"), (3, "exchange"), (3, "stage")])
@pytest.mark.parametrize("width", [330, 700, 1230, 2500])
def test_boxes_stand_in_those_that_they_belong_to_and_none_on_another(folder: Path, width: int, num_workers: int, kind: str):
    workers = [f"Worker_{rank}" for rank in range(num_workers)]
    topology = {
        "processes": [
            process(
                "Web", [("AsyncLLM", None), ("AsyncMPClient", "AsyncLLM")], [("loop", None), ("monitor", "AsyncMPClient")]
            ),
            process("EngineCore", [("EngineCoreProc", None)], [("input", "EngineCoreProc"), ("output", "EngineCoreProc")]),
            *(process(name, [("WorkerProc", None)], [("run", "WorkerProc")]) for name in workers),
        ],
        "links": [
            {"name": "requests", "kind": "zmq", "source": "Web/AsyncMPClient", "target": "EngineCore/input"},
            {"name": "outputs", "kind": "zmq", "source": "EngineCore/output", "target": "Web/AsyncMPClient"},
            *({"name": name, "kind": "ring", "source": "EngineCore", "target": f"{name}/WorkerProc"} for name in workers),
            *(
                {"name": f"a {name}", "kind": "ring", "source": f"{name}/WorkerProc", "target": "EngineCore"}
                for name in workers
            ),
            *(
                {"name": f"x {name}", "kind": kind, "source": name, "target": workers[(rank + 1) % num_workers]}
                for rank, name in enumerate(workers)
                if num_workers > 1
            ),
            *({"name": f"start {name}", "kind": "spawn", "source": "EngineCore", "target": name} for name in workers),
        ],
    }
    script = 'import { layOut } from "./hierarchy_layout.js"; console.log(JSON.stringify(layOut(%s, %d)));'
    seen = run(folder, script % (json.dumps(topology), width))
    assert [box["key"] for box in seen["processes"]] == ["Web", "EngineCore", *workers]
    frame = {"x": 0, "y": 0, "width": seen["width"], "height": seen["height"]}
    check_inside(frame, seen["processes"])
    assert len(seen["links"]) == len(topology["links"])
    for entry in seen["links"]:
        assert entry["path"].startswith("M")
        assert "NaN" not in entry["path"]
        if entry["link"]["kind"] != kind:  # between ranks that do not stand below each other there is no room
            assert ("words" in entry) == (entry["link"]["kind"] != "spawn")
    check_words(seen)


def check_words(seen: dict[str, Any]) -> None:
    """None stand on others, or on a process; those in a column's gap are as wide as can be."""
    places = []
    for entry in seen["links"]:
        if (words := entry.get("words")) is not None:
            is_aside = words["anchor"] == "start"
            left = words["x"] if is_aside else words["x"] - 72
            width = (words.get("room", 100)) if is_aside else 144
            places.append({"key": entry["link"]["name"], "x": left, "y": words["y"] - 14, "width": width, "height": 27})
    for number, one in enumerate(places):
        for other in [*places[:number], *seen["processes"]]:
            beside = one["x"] >= other["x"] + other["width"] or other["x"] >= one["x"] + one["width"]
            below = one["y"] >= other["y"] + other["height"] or other["y"] >= one["y"] + one["height"]
            assert beside or below, (one["key"], other["key"])


def check_inside(outer: dict[str, Any], boxes: list[dict[str, Any]]) -> None:
    for place, box in enumerate(boxes):
        assert outer["x"] <= box["x"], box["key"]
        assert box["x"] + box["width"] <= outer["x"] + outer["width"] + 1, box["key"]
        assert outer["y"] <= box["y"], box["key"]
        assert box["y"] + box["height"] <= outer["y"] + outer["height"] + 1, box["key"]
        for other in boxes[:place]:
            beside = box["x"] >= other["x"] + other["width"] or other["x"] >= box["x"] + box["width"]
            below = box["y"] >= other["y"] + other["height"] or other["y"] >= box["y"] + box["height"]
            assert beside or below, (box["key"], other["key"])
        check_inside(box, box.get("children", []))
