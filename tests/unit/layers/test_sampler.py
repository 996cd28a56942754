"""The sampler against plain formulas and against transformers' logits processors; alone and in a crowd, bit for bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from yeoul.grammars.matcher import GrammarMatcher
from yeoul.kernels.sampling_noise.reference import uniform_noise
from yeoul.layers.request_sampling import RequestSampling
from yeoul.layers.sampler import sample_tokens
from yeoul.messages.sampling import SamplingParams

VOCAB_SIZE = 1000


def request(
    prompt: list[int] | None = None,
    output: list[int] | None = None,
    *,
    vocab_size: int = VOCAB_SIZE,
    eos: list[int] | None = None,
    choice_index: int = 0,
    grammar: GrammarMatcher | None = None,
    **params: Any,
) -> RequestSampling:
    prompt, output = prompt or [1, 2, 3], output or []
    return RequestSampling(
        SamplingParams(**{"seed": 0, **params}),
        token_ids=np.array(prompt + output, dtype=np.int32),
        num_prompt_tokens=len(prompt),
        eos_token_ids=eos or [],
        choice_index=choice_index,
        vocab_size=vocab_size,
        device=torch.device("cpu"),
        grammar=grammar,
    )


def random_logits(num_rows: int, vocab_size: int = VOCAB_SIZE, seed: int = 0, scale: float = 3.0) -> Tensor:
    return torch.randn(num_rows, vocab_size, generator=torch.Generator().manual_seed(seed)) * scale


def changed(sampling: RequestSampling, logits: Tensor, position: int = 0) -> Tensor:
    row = logits.clone()
    sampling.change_logits(row, position)
    return row


def kept_tokens(logits: Tensor, **params: Any) -> set[int]:
    """Every token that 4,000 draws reach."""
    sampling = request(**params)
    found: set[int] = set()
    for start in range(0, 4000, 500):
        copies = logits.expand(500, -1).clone()
        found |= set(sample_tokens(copies, [sampling] * 500, range(start, start + 500)).token_ids)
    return found


def test_greedy_takes_the_likeliest_token_and_the_lowest_id_among_equals():
    logits = random_logits(3)
    logits[1, [40, 700]] = 99.0
    assert sample_tokens(logits.clone(), [request(temperature=0)] * 3, [0, 0, 0]).token_ids == [
        int(logits[0].argmax()),
        40,
        int(logits[2].argmax()),
    ]


@pytest.mark.parametrize("vocab_size", [7, 512, 997, 1000])
def test_a_draw_inverts_the_cumulative_distribution(vocab_size):
    logits = random_logits(64, vocab_size)
    drawn = sample_tokens(logits.clone(), [request(temperature=0.8, seed=5, vocab_size=vocab_size)] * 64, range(64)).token_ids
    noise = uniform_noise([5] * 64, [0] * 64, list(range(64)))
    cumulative = torch.softmax(logits.double() / 0.8, dim=-1).cumsum(dim=-1)
    expected = torch.searchsorted(cumulative, torch.from_numpy(noise)[:, None], right=True)[:, 0]
    assert drawn == expected.tolist()


def test_draws_follow_the_distribution():
    logits = random_logits(1, 12, scale=1.0)
    num_draws = 20_000
    sampling = request(temperature=1.5, seed=9, vocab_size=12)
    drawn = sample_tokens(logits.expand(num_draws, -1).clone(), [sampling] * num_draws, range(num_draws)).token_ids
    expected = torch.softmax(logits[0] / 1.5, dim=-1).numpy() * num_draws
    chi_squared = ((np.bincount(drawn, minlength=12) - expected) ** 2 / expected).sum()
    assert chi_squared < 37  # 11 degrees of freedom: a chance of about 1 in 10,000


def test_a_temperature_next_to_zero_is_greedy():
    logits = random_logits(2)
    for temperature in (1e-45, 1e-9, 1e-5, 1e-4):
        drawn = sample_tokens(logits.clone(), [request(temperature=temperature)] * 2, [0, 1]).token_ids
        assert drawn == logits.argmax(dim=-1).tolist()


@pytest.mark.parametrize(
    "params",
    [
        {"top_k": 5},
        {"top_k": 1},
        {"top_p": 0.7},
        {"top_p": 1e-9},
        {"min_p": 0.05},
        {"top_k": 20, "top_p": 0.8},
        {"top_k": 30, "top_p": 0.95, "min_p": 0.1},
        {"top_p": 0.9, "min_p": 0.02, "temperature": 1.7},
    ],
)
def test_filters_keep_the_tokens_that_transformers_keeps(params):
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = random_logits(1, 60, seed=3, scale=1.5)
    no_ids = torch.zeros(1, 0, dtype=torch.long)
    scores = TemperatureLogitsWarper(params.get("temperature", 1.0))(no_ids, logits)
    if "top_k" in params:
        scores = TopKLogitsWarper(params["top_k"])(no_ids, scores)
    if "top_p" in params:
        scores = TopPLogitsWarper(params["top_p"])(no_ids, scores)
    if "min_p" in params:
        scores = MinPLogitsWarper(params["min_p"])(torch.LongTensor(1, 0), scores)
    expected = set(torch.isfinite(scores[0]).nonzero()[:, 0].tolist())
    rare = {token for token in expected if torch.softmax(scores[0], dim=-1)[token] < 4e-3}
    found = kept_tokens(logits, vocab_size=60, **params)
    assert found <= expected
    assert expected - found <= rare


def test_a_filtered_draw_is_a_draw_from_what_is_left():
    logits = random_logits(32, seed=5)
    drawn = sample_tokens(logits.clone(), [request(top_k=10, seed=2)] * 32, range(32)).token_ids
    left = logits.masked_fill(logits < logits.topk(10).values[:, -1:], -torch.inf)
    assert drawn == sample_tokens(left, [request(seed=2)] * 32, range(32)).token_ids


def test_penalties_are_those_of_transformers():
    from transformers import RepetitionPenaltyLogitsProcessor

    prompt, output = [5, 6, 7, 7, 900], [8, 8, 5]
    logits = random_logits(1, seed=1)
    expected = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([prompt + output]), logits.clone())
    assert torch.equal(changed(request(prompt, output, repetition_penalty=1.3), logits[0], 3), expected[0])


def test_presence_and_frequency_count_the_output_alone():
    logits = random_logits(1)[0]
    sampling = request([5, 6, 7], [8, 8, 5], presence_penalty=0.5, frequency_penalty=0.25)
    expected = logits.clone()
    expected[8] -= 0.5 + 2 * 0.25
    expected[5] -= 0.5 + 0.25
    torch.testing.assert_close(changed(sampling, logits, 3), expected)


def test_penalties_grow_with_each_token_as_if_it_had_been_there_from_the_start():
    logits = random_logits(1)[0]
    params: dict[str, Any] = {"presence_penalty": 0.5, "frequency_penalty": 0.2, "repetition_penalty": 1.2}
    tokens = torch.randint(0, VOCAB_SIZE, (300,), generator=torch.Generator().manual_seed(1)).tolist()
    growing = request(**params)
    for token in tokens:
        growing.note_token(token)
    assert torch.equal(changed(growing, logits, 300), changed(request(output=tokens, **params), logits, 300))


def test_bias_is_added_and_min_tokens_holds_every_end_back():
    logits = random_logits(1)[0]
    sampling = request(logit_bias={4: 2.5, 9: -100.0}, min_tokens=2, stop_token_ids=[11], eos=[12, 13])
    expected = logits.clone()
    expected[4] += 2.5
    expected[9] -= 100.0
    torch.testing.assert_close(changed(sampling, logits, 2), expected)
    expected[[11, 12, 13]] = -torch.inf
    torch.testing.assert_close(changed(sampling, logits, 1), expected)


def test_a_masked_token_is_never_drawn():
    logits = torch.full((1, 10), -5.0)
    logits[0, 3] = 30.0
    sampling = request(vocab_size=10, min_tokens=9999, eos=[3, 9], temperature=50.0)
    drawn = sample_tokens(logits.expand(2000, -1).clone(), [sampling] * 2000, range(2000)).token_ids
    assert set(drawn) == {0, 1, 2, 4, 5, 6, 7, 8}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logprobs_are_of_the_model_before_any_change(temperature):
    logits = random_logits(1)
    sampling = request(temperature=temperature, logprobs=3, logit_bias={17: 100.0}, top_k=1)
    result = sample_tokens(logits.clone(), [sampling], [0])
    expected = torch.log_softmax(logits[0], dim=-1)
    best = expected.topk(3)
    entry = result.logprobs[0]
    assert result.token_ids == [17]
    assert entry.token_ids == [17, *best.indices.tolist()]
    assert entry.logprobs == pytest.approx([float(expected[17]), *best.values.tolist()])
    assert entry.rank == 1 + int((expected > expected[17]).sum())


CROWD: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 0.7, "seed": 1},
    {"temperature": 0.7, "seed": 1, "choice_index": 1},
    {"top_p": 0.9, "seed": 2},
    {"top_k": 40, "top_p": 0.95, "seed": 3},
    {"min_p": 0.1, "seed": 4, "temperature": 1.4},
    {"repetition_penalty": 1.1, "seed": 5},
    {"presence_penalty": 1.0, "frequency_penalty": 0.5, "temperature": 0.0},
    {"logit_bias": {5: 3.0}, "logprobs": 5},
    {"min_tokens": 5, "eos": [3], "logprobs": 0},
]


@pytest.mark.parametrize("vocab_size", [1000, 49152])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_row_is_the_same_alone_and_in_any_crowd(vocab_size, num_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        logits = random_logits(len(CROWD), vocab_size, seed=8)
        positions = list(range(len(CROWD)))

        def make(row: int) -> RequestSampling:
            return request(output=[9, 8, 9], vocab_size=vocab_size, **CROWD[row])

        together = sample_tokens(logits.clone(), [make(row) for row in positions], positions)
        order = positions[::-1][:7]
        shuffled = sample_tokens(logits[order].clone(), [make(row) for row in order], order)
        for row in positions:
            alone = sample_tokens(logits[row : row + 1].clone(), [make(row)], [row])
            assert alone.token_ids[0] == together.token_ids[row]
            assert alone.logprobs.get(0) == together.logprobs.get(row)
            if row in order:
                assert shuffled.token_ids[order.index(row)] == together.token_ids[row]
    finally:
        torch.set_num_threads(before)


def test_the_first_choice_of_many_is_the_only_choice_of_one_and_choices_differ():
    logits = random_logits(1).expand(8, -1)
    choices = [request(seed=3, temperature=2.0, choice_index=index) for index in range(8)]
    drawn = sample_tokens(logits.clone(), choices, [0] * 8).token_ids
    assert drawn[0] == sample_tokens(logits[:1].clone(), [request(seed=3, temperature=2.0)], [0]).token_ids[0]
    assert len(set(drawn)) > 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_no_numbers_fail_their_own_row_only(bad):
    logits = random_logits(4)
    logits[1] = bad
    logits[3, 5] = math.nan
    result = sample_tokens(logits.clone(), [request(), request(), request(temperature=0), request(temperature=0)], [0] * 4)
    assert set(result.faults) == {1, 3}
    assert "not a finite number" in result.faults[1].message
    assert result.token_ids[2] == int(logits[2].argmax())


def test_a_token_outside_the_vocabulary_is_refused_when_the_request_comes():
    for params in ({"logit_bias": {VOCAB_SIZE: 1.0}}, {"min_tokens": 1, "stop_token_ids": [-1]}):
        with pytest.raises(IndexError, match="not in the vocabulary of 1000 tokens"):
            request(**params)


def test_parameters_that_cannot_be_applied_fail_their_own_row_only():
    broken = request(prompt=[VOCAB_SIZE + 5], repetition_penalty=1.5)
    logits = random_logits(3)
    result = sample_tokens(logits.clone(), [broken, request(temperature=0), request(logprobs=-3)], [0, 0, 0])
    assert set(result.faults) == {0, 2}
    assert "could not be applied: IndexError" in result.faults[0].message
    assert "log probabilities could not be computed: RuntimeError" in result.faults[2].message
    assert result.token_ids[1] == int(logits[1].argmax())


def test_only_allowed_tokens_are_sampled():
    logits = random_logits(1)
    assert kept_tokens(logits, allowed_token_ids=[3, 500, 999], temperature=5.0) == {3, 500, 999}


def test_a_row_that_may_become_nothing_fails_alone():
    logits = random_logits(3)
    nothing = request(allowed_token_ids=[7], logit_bias={7: -torch.inf})
    result = sample_tokens(logits, [request(), nothing, request()], [0, 0, 0])
    assert list(result.faults) == [1]


def test_forced_tokens_come_first_with_their_own_log_probabilities():
    logits = random_logits(1)
    forced = request(forced_token_ids=[17, 4], logprobs=1, temperature=0, allowed_token_ids=[9])
    found = []
    for position in range(3):
        result = sample_tokens(logits.clone(), [forced], [position])
        found += result.token_ids
        assert result.logprobs[0].token_ids[0] == result.token_ids[0]
        expected = torch.log_softmax(logits[0], dim=-1)[result.token_ids[0]]
        assert result.logprobs[0].logprobs[0] == pytest.approx(float(expected), abs=1e-5)
    assert found == [17, 4, 9]


@pytest.mark.parametrize("output", [[], [5], [5, 6], [6, 5], [9, 5, 6], [5, 6, 7]])
def test_the_last_token_of_a_bad_word_is_out_after_its_others(output):
    sampling = request(output=output, bad_word_token_ids=[[5, 6, 7], [8], [6, 7]])
    banned = set(torch.isneginf(changed(sampling, random_logits(1)[0], len(output))).nonzero()[:, 0].tolist())
    assert banned == {8} | ({7} if output[-1:] == [6] else set())
    grown = request(bad_word_token_ids=[[5, 6, 7], [8], [6, 7]])
    for token in output:
        grown.note_token(token)
    assert torch.equal(changed(grown, random_logits(1)[0]), changed(sampling, random_logits(1)[0]))


def test_named_tokens_are_told_in_place_of_the_likeliest():
    logits = random_logits(1)
    (report,) = sample_tokens(logits.clone(), [request(logprob_token_ids=[4, 2, 4], logprobs=3)], [0]).logprobs.values()
    assert report.token_ids[1:] == [4, 2, 4]
    expected = torch.log_softmax(logits[0], dim=-1)[[4, 2, 4]]
    assert report.logprobs[1:] == pytest.approx(expected.tolist(), abs=1e-5)
