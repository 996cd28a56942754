"""``yeoul serve`` with the default model, asked by the ``openai`` client as its users would."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from openai import BadRequestError, OpenAI

from tests.mermaid_boxes import documented_boxes, read_boxes
from tests.running_server import YEOUL, RunningServer

QUESTION = [{"role": "user", "content": "Name three rivers in Europe."}]


@pytest.fixture(scope="module")
def server():
    with RunningServer(model="smollm2-135m-instruct", timeout_seconds=300.0) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with OpenAI(base_url=f"{server.url}/v1", api_key="none") as made:
        yield made


@pytest.fixture(scope="module")
def model(client):
    return client.models.list().data[0].id


def ask(client, model, **arguments):
    return client.chat.completions.create(model=model, messages=QUESTION, max_tokens=24, temperature=0, **arguments)


def test_a_streamed_answer_is_the_whole_answer_in_pieces(client, model):
    whole = ask(client, model)
    pieces = list(ask(client, model, stream=True, stream_options={"include_usage": True}))
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == whole.choices[0].message.content
    assert len(text) > 20
    assert sum(1 for piece in pieces if piece.choices and piece.choices[0].delta.content) > 10
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens == 24


def test_a_greedy_answer_is_the_same_alone_and_in_a_crowd(client, model):
    alone = ask(client, model).choices[0].message.content
    with ThreadPoolExecutor(8) as pool:
        crowd = list(pool.map(lambda _: ask(client, model).choices[0].message.content, range(8)))
    assert crowd == [alone] * 8


def test_a_seed_gives_the_same_sample_and_choice_0_of_n_is_the_choice_of_1(client, model):
    def sample(n):
        answer = client.completions.create(
            model=model, prompt="The river", max_tokens=12, temperature=1.0, top_p=0.9, seed=7, n=n
        )
        return [choice.text for choice in answer.choices]

    three = sample(3)
    assert sample(3) == three
    assert sample(1) == three[:1]
    assert len(set(three)) == 3
    batch = client.completions.create(
        model=model, prompt=["A fox", "The river"], max_tokens=12, temperature=1.0, top_p=0.9, seed=7
    )
    assert batch.choices[1].text == three[0]


def test_the_text_ends_before_a_stop_string(client, model):
    whole = client.completions.create(model=model, prompt="1, 2, 3, 4, 5,", max_tokens=20, temperature=0).choices[0]
    stop = whole.text[6:9]
    cut = client.completions.create(model=model, prompt="1, 2, 3, 4, 5,", max_tokens=20, temperature=0, stop=[stop]).choices[
        0
    ]
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"


def test_log_probabilities_come_with_the_likeliest_first(client, model):
    answer = ask(client, model, logprobs=True, top_logprobs=3)
    entries = answer.choices[0].logprobs.content
    assert len(entries) == 24
    for entry in entries:
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token  # greedy
        assert [top.logprob for top in entry.top_logprobs] == sorted((t.logprob for t in entry.top_logprobs), reverse=True)
        assert bytes(entry.bytes).decode(errors="replace") == entry.token
    assert "".join(entry.token for entry in entries) == answer.choices[0].message.content


def test_a_known_prefix_is_not_computed_again(client, model):
    prompt = "The rapids of the river " * 40
    client.completions.create(model=model, prompt=prompt, max_tokens=1)
    again = client.completions.create(model=model, prompt=prompt, max_tokens=1)
    assert again.usage.prompt_tokens_details.cached_tokens > 100


def test_a_prompt_longer_than_the_context_is_refused_and_never_cut(client, model):
    with pytest.raises(BadRequestError, match="8192") as refusal:
        client.completions.create(model=model, prompt="river " * 9000, max_tokens=1)
    assert refusal.value.code == "context_length_exceeded"


def test_an_answer_without_a_limit_ends_by_itself(client, model):
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Say hello."}], temperature=0)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content


def test_the_hierarchy_is_the_documented_one_box_by_box_but_for_a_second_worker(server):
    done = subprocess.run([YEOUL, "topology", server.url, "--mermaid"], capture_output=True, text=True, check=True)
    documented = documented_boxes()
    second = {place for place in documented.places if place[0].startswith("Worker process 1")}
    arrows = {arrow for arrow in documented.arrows if not {arrow[0], arrow[2]} & second}
    assert read_boxes(done.stdout) == (documented.places - second, arrows)
