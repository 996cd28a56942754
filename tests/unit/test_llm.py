"""LLM over an engine without processes: lists in, lists out, in any thread, with or without a loop around it."""

import asyncio
import functools
import gc
import threading

import msgspec
import pytest

import yeoul.llm
from tests.unit.web_process.fake_engine_client import FakeEngineClient
from yeoul import engine_thread
from yeoul.errors import (
    ConfigError,
    InvalidRequestError,
    ProcessDeadError,
    PromptTooLongError,
    RequestFailedError,
    UnavailableError,
)
from yeoul.llm import LLM
from yeoul.messages.outputs import RequestFault
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.tokenizer_source import FAKE_BOS_TOKEN_ID
from yeoul.web_process.engine.async_llm import AsyncLLM

GREEDY = SamplingParams(temperature=0.0, seed=7)


@pytest.fixture
def clients(monkeypatch):
    """Every engine client that was made, the latest last."""
    made = []

    def connect(*arguments):
        made.append(FakeEngineClient(*arguments))
        return made[-1]

    monkeypatch.setattr(yeoul.llm, "AsyncLLM", functools.partial(AsyncLLM, connect=connect))
    return made


@pytest.fixture
def llm(clients):
    with LLM("fake", max_model_len=256, max_num_waiting_requests=8) as started:
        yield started


def llm_threads():
    return [thread for thread in threading.enumerate() if thread.name == "LLMLoop"]


def comes_true(condition):
    """Whether ``condition`` holds within five seconds."""
    pause = threading.Event()
    return any(condition() or pause.wait(0.01) for _ in range(500))


def echo(add):
    """An engine that answers with the prompt."""
    return add.prompt_token_ids[1:]


def test_the_constructor_starts_nothing(clients):
    LLM("fake")
    assert clients == []
    assert llm_threads() == []


def test_an_unknown_setting_names_the_nearest_known_one():
    with pytest.raises(ConfigError, match=r"^max_modl_len is no setting\. Did you mean max_model_len\?$"):
        LLM("fake", max_modl_len=5)


def test_settings_come_from_arguments_the_environment_and_a_file(monkeypatch, tmp_path):
    (tmp_path / "a.toml").write_text("block_size = 32\nmax_num_seqs = 3\n")
    monkeypatch.setenv("YEOUL_MAX_NUM_SEQS", "4")
    settings = LLM("fake", config=str(tmp_path / "a.toml"), dtype="float32").settings
    assert (settings.cache.block_size, settings.scheduler.max_num_seqs, settings.model.dtype) == (32, 4, "float32")


def test_the_engine_starts_at_the_first_use_and_ends_with_close(clients):
    llm = LLM("fake")
    assert llm.generate("hi")[0].text == "hello world"
    assert len(llm_threads()) == 1
    llm.close()
    llm.close()
    assert clients[0].is_stopped
    assert llm_threads() == []


def test_a_call_after_close_starts_the_engine_again(clients):
    llm = LLM("fake")
    llm.generate("hi")
    llm.close()
    assert llm.generate("hi")[0].text == "hello world"
    llm.close()
    assert len(clients) == 2


def test_leaving_the_with_ends_the_engine_after_an_error_too(clients):
    with pytest.raises(ZeroDivisionError), LLM("fake"):
        raise ZeroDivisionError
    assert clients[0].is_stopped
    assert llm_threads() == []


def test_answers_come_in_the_order_of_the_prompts(llm, clients):
    clients[0].reply = echo
    prompts = [f"prompt {number} " + "x" * (17 * number % 50) for number in range(30)]
    results = llm.generate(prompts, GREEDY)
    assert [result.prompt for result in results] == prompts
    assert [result.text for result in results] == prompts
    assert all(result.seed == 7 for result in results)
    assert results[3].prompt_token_ids == [FAKE_BOS_TOKEN_ID, *prompts[3].encode()]


def test_more_prompts_than_the_queue_takes_are_fed_in_as_there_is_room(llm):
    assert len(llm.generate(["hi"] * 100, SamplingParams(n=3))) == 100


def test_one_text_or_one_list_of_tokens_is_one_prompt(llm):
    assert len(llm.generate("hi")) == 1
    assert len(llm.generate([1, 2, 3])) == 1
    assert len(llm.generate([[1, 2, 3], "hi"])) == 2
    assert llm.generate([]) == []


def test_every_choice_is_collected(llm, clients):
    clients[0].reply = lambda add: [ord("a") + add.choice_index] * (add.choice_index + 1)
    (result,) = llm.generate("hi", SamplingParams(n=3))
    assert [choice.text for choice in result.choices] == ["a", "bb", "ccc"]
    assert [choice.finish_reason for choice in result.choices] == ["length"] * 3
    assert result.num_output_tokens == 6


def test_logprobs_are_collected(llm):
    (result,) = llm.generate("hi", SamplingParams(logprobs=1, prompt_logprobs=1))
    assert len(result.choices[0].logprobs) == len(result.choices[0].token_ids) == 12
    assert len(result.prompt_logprobs) == 3


def test_each_prompt_may_have_its_own_parameters(llm):
    results = llm.generate(["a", "b"], [SamplingParams(max_tokens=2), SamplingParams(max_tokens=4)])
    assert [result.text for result in results] == ["he", "hell"]
    with pytest.raises(InvalidRequestError, match="1 sampling parameters for 2 prompts"):
        llm.generate(["a", "b"], [SamplingParams()])


def test_a_chat_is_rendered_by_the_template(clients):
    with LLM("fake", chat_template="{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}") as llm:
        clients[0].reply = lambda add: add.prompt_token_ids
        conversation = [{"role": "user", "content": "hi"}]
        assert [result.text for result in llm.chat(conversation)] == ["user:hi;"]
        several = llm.chat([conversation, [*conversation, {"role": "assistant", "content": "yes"}]])
        assert [result.text for result in several] == ["user:hi;", "user:hi;assistant:yes;"]


@pytest.mark.parametrize("messages", [["hi"], [["hi"]], [{"role": "user"}, "hi"], [5]])
def test_what_is_no_conversation_is_refused(llm, messages):
    with pytest.raises(InvalidRequestError, match="messages has to be a list of messages"):
        llm.chat(messages)


def test_a_vector_comes_for_each_prompt(llm):
    assert llm.encode(["a", "b"]) == [[0.0, 1.0], [0.0, 1.0]]
    with pytest.raises(InvalidRequestError, match="expected 'last' or 'mean'"):
        llm.encode("a", pooling="first")


@pytest.mark.parametrize("prompts", [5, None, [None], [b"bytes"], [{"role": "user"}], [["a"]], [[300_000]], [[]]])
def test_what_is_no_prompt_is_refused(llm, prompts):
    with pytest.raises(InvalidRequestError):
        llm.generate(prompts)


def test_an_error_in_one_prompt_ends_the_call_and_leaves_nothing_running(llm, clients):
    with pytest.raises(PromptTooLongError):
        llm.generate(["hi", "x" * 300, "hi"])
    assert clients[0].num_running == 0
    assert llm.generate("hi")[0].text == "hello world"


def test_parameters_that_cannot_work_are_refused_before_anything_runs(llm, clients):
    with pytest.raises(InvalidRequestError, match="temperature is -1"):
        llm.generate(["hi", "hi"], [SamplingParams(), SamplingParams(temperature=-1)])
    assert clients[0].added == []


def test_a_request_that_fails_in_the_engine_raises_its_fault(llm, clients):
    def fail(output):
        return msgspec.structs.replace(output, finish_reason="error", fault=RequestFault("it failed"), new_token_ids=[])

    step = clients[0]._next
    clients[0]._next = lambda add, reply: fail(step(add, reply))
    with pytest.raises(RequestFailedError, match="it failed"):
        llm.generate("hi")


def test_a_dead_engine_raises_and_close_still_works(clients):
    with LLM("fake") as llm:
        clients[0].die()
        with pytest.raises(ProcessDeadError, match="Worker_0 was killed by signal 9"):
            llm.generate(["hi"] * 3)
    assert llm_threads() == []


def test_a_start_that_fails_leaves_no_thread(clients, monkeypatch):
    async def fail(_):
        raise ProcessDeadError("EngineCore", "ended with exit code 1", exit_code=1)

    monkeypatch.setattr(FakeEngineClient, "start", fail)
    with pytest.raises(ProcessDeadError):
        LLM("fake").generate("hi")
    assert clients[0].is_stopped
    assert llm_threads() == []


def test_a_model_that_is_not_there_is_the_users_mistake():
    with pytest.raises(ConfigError):
        LLM("/nowhere/model.gguf").start()
    assert llm_threads() == []


def test_it_works_inside_a_running_loop(llm):
    async def notebook():
        return llm.generate("hi")[0].text

    assert asyncio.run(notebook()) == "hello world"


def test_several_threads_share_one_engine(llm, clients):
    texts = []
    threads = [threading.Thread(target=lambda: texts.extend(llm.generate(["hi"] * 20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 80
    assert len(clients) == 1


def test_an_interruption_gives_the_requests_up(llm, clients, monkeypatch):
    clients[0].gate.clear()
    started = threading.Event()

    def reply(add):
        started.set()
        return [1]

    clients[0].reply = reply

    def interrupted(self, timeout=None):
        started.wait(5)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("concurrent.futures.Future.result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            llm.generate("hi")
    assert comes_true(lambda: clients[0].num_running == 0)


def test_a_model_that_is_dropped_without_close_is_ended(clients):
    LLM("fake").generate("hi")
    gc.collect()
    assert comes_true(lambda: clients[0].is_stopped and llm_threads() == [])


def test_a_model_that_is_still_open_is_ended_with_the_interpreter(clients):
    llm = LLM("fake")
    llm.generate("hi")
    engine_thread._stop_open_threads()
    assert clients[0].is_stopped
    assert llm_threads() == []
    llm.close()


def test_the_bar_counts_prompts_and_tokens_on_a_terminal(llm, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    llm.generate(["hi"] * 5)
    assert "prompts, 60 tokens" in capsys.readouterr().err
    llm.generate(["hi"] * 5, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("round_", range(10))
def test_whoever_races_with_a_close_gets_an_answer_or_an_error_and_never_waits(clients, round_):
    llm = LLM("fake", max_model_len=256)
    llm.start()
    clients[-1].gate.clear()  # what has begun is never finished
    ends: list[BaseException] = []
    ready = threading.Barrier(9)

    def ask() -> None:
        ready.wait()
        try:
            llm.generate("hi", GREEDY, progress=False)
        except Exception as error:
            ends.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    ready.wait()
    llm.close()
    for client in clients:
        client.gate.set()  # a call that came after the end has started another engine
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    llm.close()
    assert all(isinstance(error, (UnavailableError, ProcessDeadError)) for error in ends), ends
    assert comes_true(lambda: llm_threads() == [])


def test_a_stopped_engine_says_so_to_who_still_holds_it(clients):
    llm = LLM("fake", max_model_len=256)
    llm.start()
    thread = llm._thread
    assert thread is not None
    llm.close()
    with pytest.raises(UnavailableError, match="closed by another thread"):
        thread.run(asyncio.sleep(0))
