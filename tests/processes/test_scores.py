"""Embeddings, scores and ranks over HTTP: every form that clients have, and what the numbers are made of."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.running_server import RunningServer

TEMPLATE = "Query: {query}\nDocument: {document}\n{instruction}:"
QUERY = "Which machine is it?"
DOCUMENTS = [
    "A machine uses power.",
    "Learning is acquiring.",
    "Machine learning is a field.",
    "Paris, capitale de la France.",
]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    words = ("--rerank-template", TEMPLATE, "--rerank-words", "y,n")
    with RunningServer(*words, "--max-model-len", "512", "--max-num-waiting-requests", "300") as running:
        yield running


def post(server: RunningServer, path: str, **fields: Any) -> Any:
    answer = httpx.post(f"{server.url}{path}", json=fields, timeout=60.0)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(server: RunningServer, path: str, **fields: Any) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}{path}", json=fields, timeout=60.0)
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_the_best_document_comes_first(server, path):
    answer = post(server, path, query=QUERY, documents=DOCUMENTS)
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert sorted(result["index"] for result in answer["results"]) == [0, 1, 2, 3]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0
    has_documents = path != "/v2/rerank"
    for result in answer["results"]:
        assert result.get("document") == ({"text": DOCUMENTS[result["index"]]} if has_documents else None)
    asked = post(
        server, path, query=QUERY, documents=[{"text": text} for text in DOCUMENTS], return_documents=not has_documents
    )
    assert [result["relevance_score"] for result in asked["results"]] == scores
    assert all(("document" in result) is not has_documents for result in asked["results"])


def test_a_score_is_what_the_two_log_probabilities_make_of_it(server):
    instruction = "Given a web search query, retrieve relevant passages that answer the query"
    prompt = TEMPLATE.format(query=QUERY, document=DOCUMENTS[0], instruction=instruction)
    completion = post(
        server, "/v1/completions", prompt=prompt, max_tokens=1, temperature=0, add_special_tokens=False,
        logprob_token_ids=[ord("y"), ord("n")],
    )  # fmt: skip
    (top,) = completion["choices"][0]["logprobs"]["top_logprobs"]
    expected = 1 / (1 + math.exp(top["n"] - top["y"]))
    (data,) = post(server, "/v1/score", text_1=QUERY, text_2=DOCUMENTS[0])["data"]
    assert data["score"] == pytest.approx(expected)
    (raw,) = post(server, "/v1/score", text_1=QUERY, text_2=DOCUMENTS[0], use_activation=False)["data"]
    assert raw["score"] == pytest.approx(top["y"] - top["n"])
    (other,) = post(server, "/v1/score", text_1=QUERY, text_2=DOCUMENTS[0], instruction="Be strict")["data"]
    assert other["score"] != data["score"]


@pytest.mark.parametrize(
    "names", [("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2")]
)
def test_texts_are_compared_one_with_many_or_in_pairs(server, names):
    one, many = names
    of_one = post(server, "/score", **{one: QUERY, many: DOCUMENTS})["data"]
    of_pairs = post(server, "/score", **{one: [QUERY] * 4, many: DOCUMENTS})["data"]
    assert of_one == of_pairs
    assert [entry["index"] for entry in of_one] == [0, 1, 2, 3]
    ranks = post(server, "/rerank", query=QUERY, documents=DOCUMENTS)["results"]
    assert {rank["index"]: rank["relevance_score"] for rank in ranks} == {entry["index"]: entry["score"] for entry in of_one}


def test_the_form_of_text_embeddings_inference(server):
    bare = post(server, "/rerank", query=QUERY, texts=DOCUMENTS)
    assert [set(entry) for entry in bare] == [{"index", "score"}] * 4
    raw = post(server, "/rerank", query=QUERY, texts=DOCUMENTS, raw_scores=True, return_text=True)
    assert [entry["index"] for entry in raw] == [entry["index"] for entry in bare]
    assert [entry["text"] for entry in raw] == [DOCUMENTS[entry["index"]] for entry in raw]
    assert min(entry["score"] for entry in raw) < 0


@pytest.mark.parametrize(("top_n", "num_results"), [(None, 4), (0, 4), (2, 2), (4, 4), (99, 4)])
@pytest.mark.parametrize("field", ["documents", "texts"])
def test_no_more_than_so_many_are_told(server, field, top_n, num_results):
    answer = post(server, "/rerank", query=QUERY, top_n=top_n, **{field: DOCUMENTS})
    assert len(answer if field == "texts" else answer["results"]) == num_results


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/rerank", {"query": QUERY, "documents": []}, "documents"),
        ("/rerank", {"query": QUERY, "documents": None}, "documents"),
        ("/rerank", {"query": QUERY, "documents": 123}, "documents"),
        ("/rerank", {"query": QUERY, "documents": [1, 2, 3]}, "documents.0"),
        ("/rerank", {"query": QUERY, "documents": ["a"], "texts": ["b"]}, "documents"),
        ("/rerank", {"documents": ["a"]}, "query"),
        ("/rerank", {"query": QUERY, "documents": ["a"] * 2049}, "documents"),
        ("/rerank", {"query": QUERY, "documents": ["x" * 600]}, "documents"),
        ("/rerank", {"query": QUERY, "documents": [{"image": "x"}]}, "documents.0"),
        ("/score", {"text_1": ["a", "b"], "text_2": DOCUMENTS}, "text_1"),
        ("/score", {"text_1": "a"}, "text_1"),
    ],
)
def test_what_cannot_be_judged_is_refused(server, path, fields, param):
    assert refused(server, path, **fields)["param"] == param


def test_a_long_document_is_cut_where_that_is_asked_for(server):
    fields: dict[str, Any] = {"query": QUERY, "documents": ["x" * 3000, "short"]}
    for how in (
        {"truncate_prompt_tokens": -1},
        {"truncate": True},
        {"truncate_prompt_tokens": 200},
        {"max_tokens_per_doc": 50},
    ):
        usage = post(server, "/rerank", **fields, **how)["usage"]
        assert usage["prompt_tokens"] < 2 * 512
    whole = post(server, "/score", text_1=QUERY, text_2="short")["data"][0]["score"]
    assert whole in [result["relevance_score"] for result in post(server, "/rerank", **fields, truncate=True)["results"]]


def test_many_documents_are_judged_as_each_alone(server):
    documents = [f"number {number}" for number in range(1000)]
    answer = post(server, "/rerank", query=QUERY, documents=documents, return_documents=False)
    found = {result["index"]: result["relevance_score"] for result in answer["results"]}
    assert len(found) == 1000
    for index in (0, 299, 300, 999):
        (alone,) = post(server, "/score", text_1=QUERY, text_2=documents[index])["data"]
        assert found[index] == alone["score"]


def test_a_model_that_is_no_reranker_says_so():
    with RunningServer() as plain:
        for path, fields in (("/rerank", {"query": "q", "documents": ["d"]}), ("/score", {"text_1": "q", "text_2": "d"})):
            error = refused(plain, path, **fields)
            assert error["param"] == "model"
            assert "is no reranker" in error["message"]


def test_a_reranker_whose_words_cannot_work_does_not_start():
    with RunningServer("--rerank-template", TEMPLATE, "--rerank-words", "yes,no", wait=False) as server:
        assert server.wait_exit(60.0) == 2
        assert "--rerank-words" in server.log()


# Embeddings


def test_2048_inputs_are_answered_in_order_as_each_alone(server):
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60.0)
    with client:
        texts = [f"text {number}" for number in range(2048)]
        answer = client.embeddings.create(model="fake", input=texts)
        assert [entry.index for entry in answer.data] == list(range(2048))
        alone = client.embeddings.create(model="fake", input=texts[1500])
        assert answer.data[1500].embedding == alone.data[0].embedding
        assert answer.usage.prompt_tokens == sum(len(text) + 1 for text in texts)


def test_a_vector_may_be_shortened_and_keeps_its_length(server):
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60.0)
    with client:
        whole = client.embeddings.create(model="fake", input="river").data[0].embedding
        short = client.embeddings.create(model="fake", input="river", dimensions=8).data[0].embedding
        as_numbers = client.embeddings.create(model="fake", input="river", dimensions=8, encoding_format="float")
        assert as_numbers.data[0].embedding == pytest.approx(short)
        length = math.hypot(*whole[:8])
        assert short == pytest.approx([value / length for value in whole[:8]], abs=1e-6)
        assert len(client.embeddings.create(model="fake", input="river", dimensions=64).data[0].embedding) == 64
        with pytest.raises(openai.BadRequestError, match="expected 1 to 64") as caught:
            client.embeddings.create(model="fake", input="river", dimensions=65)
        assert caught.value.param == "dimensions"


def test_messages_are_an_input_as_the_template_writes_them(server):
    messages = [{"role": "user", "content": "river"}]
    prompt = "user: river\nassistant: "  # the fake model's template opens an answer in any case
    vector = post(server, "/v1/embeddings", messages=messages)["data"][0]["embedding"]
    assert vector == post(server, "/v1/embeddings", input=prompt, add_special_tokens=False)["data"][0]["embedding"]
    assert vector != post(server, "/v1/embeddings", input=prompt)["data"][0]["embedding"]
    assert refused(server, "/v1/embeddings", messages=messages, input="x")["param"] == "input"
    assert refused(server, "/v1/embeddings")["param"] == "input"


def test_a_long_input_is_cut_at_either_end_where_that_is_asked_for(server):
    def vector(**fields: Any) -> Any:
        return post(server, "/v1/embeddings", **fields)["data"][0]["embedding"]

    text = "a" * 20 + "b" * 20
    kept = vector(input="a" * 9)
    assert vector(input=text, truncate_prompt_tokens=10) == kept
    assert vector(input=text, truncate_prompt_tokens=10, truncation_side="left") == vector(
        input="b" * 10, add_special_tokens=False
    )
    assert refused(server, "/v1/embeddings", input="x" * 600)["code"] == "context_length_exceeded"
    assert len(vector(input="x" * 600, truncate_prompt_tokens=-1)) == 64
    assert refused(server, "/v1/embeddings", input="x", truncate_prompt_tokens=0)["param"] == "truncate_prompt_tokens"


def test_a_client_that_leaves_ends_all_portions(server):
    body = json.dumps({"query": QUERY, "documents": ["x" * 300] * 2000}).encode()
    with httpx.Client(base_url=server.url, timeout=0.3) as client, pytest.raises(httpx.TimeoutException):
        client.post("/rerank", content=body, headers={"content-type": "application/json"})
    assert post(server, "/v1/embeddings", input="river")["data"]
    assert "Traceback" not in server.log()
