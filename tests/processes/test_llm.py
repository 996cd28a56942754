"""``LLM`` in a script as a user writes it, with no ``__main__`` guard: it works, and leaves nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import httpx
import pytest

from tests.running_server import RunningServer, descendants, title, wait_gone
from yeoul import AsyncLLM, SamplingParams
from yeoul.config.build import build_settings

START = """
from yeoul import LLM, SamplingParams
llm = LLM("fake", max_model_len=512, recovery_reports=False)
params = SamplingParams(max_tokens=16, seed=1)
alone = [llm.generate(prompt, params)[0].text for prompt in "ab"]
print([result.text for result in llm.generate(["a", "b"], params)] == alone, flush=True)
"""


def script(tmp_path, ending):
    path = tmp_path / "script.py"
    path.write_text(START + ending)
    command, pipe = [sys.executable, str(path)], subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    assert process.stdout.readline() == b"True\n", process.communicate(timeout=10)[1].decode()
    family = descendants(process.pid)
    assert [title(pid) for pid in family[1:]] == ["yeoul::EngineCore", "yeoul::Worker_0"]
    return process, family


@pytest.mark.parametrize(
    ("ending", "exit_code"),
    [
        ("input()", 0),
        ("input(); llm.close()", 0),
        ("input(); del llm", 0),
        ("input(); raise SystemExit(3)", 3),
        ("input(); 1 / 0", 1),
    ],
)
def test_however_a_script_ends_no_process_is_left(tmp_path, ending, exit_code):
    process, family = script(tmp_path, ending)
    _, err = process.communicate(b"\n", timeout=20)
    assert process.returncode == exit_code
    assert ("ZeroDivisionError" in err.decode()) == (exit_code == 1)
    assert err.count(b"Traceback") == (exit_code == 1)
    assert wait_gone(family, 1.0) == set()


def test_a_script_that_is_killed_takes_its_engine_along(tmp_path):
    process, family = script(tmp_path, "input()")
    process.kill()
    process.communicate(timeout=10)
    assert wait_gone(family, 1.0) == set()


def test_ctrl_c_in_a_long_call_ends_the_call_and_the_engine_serves_the_next(tmp_path):
    ending = """
input()
slow = LLM("fake", max_model_len=4096, fake_step_seconds=0.01)
slow.start()
try:
    print("started", flush=True)
    slow.generate(["x"] * 4, SamplingParams(max_tokens=4000, ignore_eos=True))
except KeyboardInterrupt:
    print("interrupted", len(slow.generate("y", params)[0].choices[0].token_ids), flush=True)
"""
    process, _ = script(tmp_path, ending)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"started\n"
    os.kill(process.pid, signal.SIGINT)
    family = descendants(process.pid)
    assert len(family) == 5
    out, err = process.communicate(timeout=30)
    assert out == b"interrupted 16\n", err.decode()
    assert process.returncode == 0
    assert wait_gone(family, 1.0) == set()


@pytest.mark.parametrize("victim", [1, 2], ids=["EngineCore", "worker"])
def test_a_script_does_not_notice_that_a_process_dies(tmp_path, victim):
    ending = """
input()
answers = llm.generate(["x"] * 4, SamplingParams(max_tokens=400, ignore_eos=True))
print("all", [len(answer.choices[0].token_ids) for answer in answers])
"""
    process, family = script(tmp_path, ending)
    os.kill(family[victim], signal.SIGKILL)
    out, err = process.communicate(b"\n", timeout=30)
    assert out.endswith(b"all [400, 400, 400, 400]\n"), err.decode()
    assert process.returncode == 0
    assert wait_gone(family, 1.0) == set()


def test_async_llm_streams_inside_an_async_with_and_leaves_nothing_behind():
    async def scene():
        async with AsyncLLM(build_settings({"model": "fake"})) as llm:
            family = descendants(os.getpid())[1:]
            assert [title(pid) for pid in family] == ["yeoul::EngineCore", "yeoul::Worker_0"]
            deltas = [delta async for delta in llm.generate("hi", SamplingParams(max_tokens=5))]
            assert deltas[-1].finish_reason == "length"
            assert sum(len(delta.token_ids) for delta in deltas) == 5
        return family

    assert wait_gone(asyncio.run(scene()), 1.0) == set()


def test_a_seed_gives_the_same_answer_alone_in_a_list_as_choice_0_of_several_and_over_http():
    prompts = ["The river", "A fox", "The river"]
    fields: dict[str, Any] = {"max_tokens": 12, "temperature": 1.0, "seed": 42}

    async def generate(engine, prompts, **changes):
        stream = await engine.submit(prompts, SamplingParams(**fields, **changes))
        stream.final_only = True
        outputs = [output async for output in stream]
        stream.close()
        outputs.sort(key=lambda output: (output.prompt_index, output.choice_index))
        return [output.text for output in outputs]

    async def scene():
        async with AsyncLLM(build_settings({"model": "fake"})) as engine:
            alone = [text for prompt in prompts for text in await generate(engine, [prompt])]
            assert await generate(engine, prompts) == alone
            several = await generate(engine, prompts, n=3)
            assert several[::3] == alone
            assert len(set(several[:3])) == 3
            return alone

    alone = asyncio.run(scene())
    with RunningServer() as server:
        answer = httpx.post(f"{server.url}/v1/completions", json={"prompt": prompts, **fields}, timeout=10.0)
        assert [choice["text"] for choice in answer.json()["choices"]] == alone
        drawn = httpx.post(f"{server.url}/v1/completions", json={"prompt": prompts, **fields, "seed": None}, timeout=10.0)
        assert all("seed" not in choice for choice in answer.json()["choices"])
        first, *_, last = drawn.json()["choices"]
        assert first["text"] != last["text"]
        again = httpx.post(
            f"{server.url}/v1/completions", json={"prompt": prompts[2], **fields, "seed": last["seed"]}, timeout=10.0
        )
        assert again.json()["choices"][0]["text"] == last["text"]


def test_the_public_names_are_listed_before_their_first_use():
    names = subprocess.run(
        [sys.executable, "-c", "import yeoul; print(*dir(yeoul))"], capture_output=True, text=True, check=True
    )
    assert {"LLM", "AsyncLLM", "SamplingParams"} <= set(names.stdout.split())


FORKS = """
import multiprocessing, os, sys, warnings
from concurrent.futures import ProcessPoolExecutor
from yeoul import LLM, SamplingParams
warnings.simplefilter("ignore", DeprecationWarning)  # of the fork itself, from Python 3.12 on
params, fork = SamplingParams(max_tokens=4, seed=1), multiprocessing.get_context("fork")

def double(number):
    return 2 * number

def use(llm):
    try:
        return llm.generate("a", params, progress=False)[0].text
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def answer(queue, llm):
    queue.put(use(llm))

idle = LLM("fake", max_model_len=512, recovery_reports=False)
with LLM("fake", max_model_len=512, recovery_reports=False) as llm:
    expected = use(llm)
    child = fork.Process(target=double, args=(3,))
    child.start(); child.join(20)
    print("unconcerned", child.exitcode)
    with fork.Pool(2) as pool:
        print("pool", pool.map(double, [1, 2]))
        pool.close(); pool.join()
    with ProcessPoolExecutor(2, mp_context=fork) as pool:
        print("executor", list(pool.map(double, [1, 2])))
    queue = fork.Queue()
    for name, one in (("used", llm), ("own", idle)):
        child = fork.Process(target=answer, args=(queue, one))
        child.start()
        print(name, queue.get(timeout=60) if name == "used" else queue.get(timeout=60) == expected)
        child.join(20)
        print(name, child.exitcode)
    if os.fork() == 0:
        llm.close()
        sys.exit(0)
    print("closed in a fork", os.waitstatus_to_exitcode(os.wait()[1]))
    print("parent", use(llm) == expected)
"""


def test_a_script_may_fork_while_its_llm_is_open(tmp_path):
    path = tmp_path / "forks.py"
    path.write_text(FORKS)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "unconcerned 0" in lines
    assert "pool [2, 4]" in lines
    assert "executor [2, 4]" in lines
    (refused,) = [line for line in lines if line.startswith("used UserError: ")]
    assert "started in another process" in refused
    assert lines[-5:] == ["used 0", "own True", "own 0", "closed in a fork 0", "parent True"]
