"""A real server's second start maps what the first one packed, and answers with the same bits."""

from __future__ import annotations

import os
from pathlib import Path

import httpx

from tests.running_server import RunningServer
from yeoul.config.settings import ModelSettings
from yeoul.model_files.resolve import resolve_model


def answer(server):
    """Tokens and log probabilities of a greedy answer."""
    body = {"prompt": "The river", "max_tokens": 12, "temperature": 0, "logprobs": 3, "seed": 1}
    choice = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60.0).json()["choices"][0]
    return choice["text"], choice["logprobs"]


def mapped_files(server):
    """What the worker has mapped, by file name."""
    lines = Path(f"/proc/{server.by_title()['yeoul::Worker_0']}/maps").read_text().splitlines()
    return {os.path.basename(fields[5]) for line in lines if len(fields := line.split(maxsplit=5)) == 6}


def test_a_second_start_uses_the_packed_weights_and_answers_with_the_same_bits(tmp_path):
    model = resolve_model(ModelSettings()).path
    answers, flags = [], ["--download-dir", str(tmp_path), "--max-model-len", "512"]
    for round_flags, expected_line in (
        (["--no-packed-weights-cache"], None),
        ([], "packed the weights in"),
        ([], "mapped the packed weights in"),
    ):
        with RunningServer(*flags, *round_flags, model=model, timeout_seconds=300.0) as server:
            answers.append(answer(server))
            names = mapped_files(server)
            assert os.path.basename(model) not in names or expected_line is None
            assert any(name.endswith(".packed") for name in names) == (expected_line is not None)
            if expected_line is not None:
                assert expected_line in server.log()
                (entry,) = os.listdir(tmp_path / "packed")
                assert entry.endswith(".packed")
            else:
                assert not (tmp_path / "packed").exists()
    assert answers[0] == answers[1] == answers[2]
