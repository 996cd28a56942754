"""What running requests are expected to need, and that it keeps admission from computing things twice."""

from __future__ import annotations

import random

from tests.unit.scheduler.desk import Desk, new_request
from yeoul.scheduler.growth import GrowthForecast
from yeoul.scheduler.request import Request


def running(num_made: int, *, max_tokens: int = 10_000, prompt: int = 4, num_own_blocks: int = 1) -> Request:
    message = new_request("a", prompt, max_tokens=max_tokens, output_token_ids=[7] * num_made)
    request = Request(message, (0, 0), 0.0, max_num_tokens=20_000)
    request.num_own_blocks = num_own_blocks
    return request


def forecast_after(*lengths: int) -> GrowthForecast:
    forecast = GrowthForecast(block_size=4)
    for length in [*lengths] * 128:
        forecast.note_finished(running(length))
    return forecast


def test_an_answer_is_expected_to_be_as_long_as_those_that_became_longer():
    forecast = forecast_after(10, 20, 60)
    assert forecast.num_tokens_to_come(running(0)) == 30
    assert forecast.num_tokens_to_come(running(10)) == 30
    assert forecast.num_tokens_to_come(running(59)) == 1


def test_of_an_answer_longer_than_all_before_as_much_again_is_expected():
    assert forecast_after(10).num_tokens_to_come(running(50)) == 50


def test_answers_of_one_token_and_vectors_say_nothing_of_others():
    forecast = forecast_after(30)
    for _ in range(200):
        forecast.note_finished(running(1))
        forecast.note_finished(running(0))
    assert forecast.num_tokens_to_come(running(0)) == 30


def test_nothing_is_expected_beyond_the_requests_own_limit():
    assert forecast_after(100).num_tokens_to_come(running(0, max_tokens=12)) == 12
    assert forecast_after(100).num_tokens_to_come(running(11, max_tokens=12)) == 1


def test_what_one_needs_another_may_have_given_back_by_then():
    forecast = forecast_after(1000)
    short, long = running(0, max_tokens=8, num_own_blocks=5), running(0, max_tokens=40, num_own_blocks=1)
    assert forecast.crowd([short]).most_more_blocks() == 2
    assert forecast.crowd([long]).most_more_blocks() == 10
    assert forecast.crowd([short, long]).most_more_blocks() == max(2 + 2, 10 - 5)
    assert forecast.crowd([]).most_more_blocks() == 0


def test_a_crowd_that_the_cache_cannot_hold_at_once_is_hardly_computed_twice():
    desk = Desk(num_blocks=64, enable_prefix_caching=False)
    draw = random.Random(3)
    messages = [new_request(f"r{index}", draw.randint(4, 20), max_tokens=draw.randint(10, 60)) for index in range(60)]
    desk.add(*messages)
    steps = desk.run_to_end()
    num_computed = sum(entry.num_new_tokens for step in steps for entry in step.scheduled)
    num_needed = sum(len(message.prompt_token_ids) + (message.sampling.max_tokens or 0) - 1 for message in messages)
    assert num_computed < 1.1 * num_needed
    assert max(len(step.scheduled) for step in steps) >= 6, "admission is not so careful that the cache stands empty"
