"""Random lives of an engine: whatever happens between steps, every request gets the tokens of a lone run."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.unit.scheduler.engine_life import MAX_NUM_IN_FLIGHT, EngineLife, Shape
from tests.unit.scheduler.recomputing_worker import VOCAB_SIZE
from yeoul.config.settings import SchedulerSettings
from yeoul.messages.requests import AddRequest, Lease
from yeoul.messages.sampling import SamplingParams

BEGINNINGS = [[], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 7, 0], [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5]]
NUM_RANDOM_LIVES = 150
NUM_EVENTS = 120


def random_shape(draw: random.Random) -> Shape:
    return Shape(
        SchedulerSettings(
            max_num_seqs=draw.randint(1, 8),
            max_num_batched_tokens=draw.choice([1, 3, 8, 20, 40]),
            max_num_waiting_requests=20,
            scheduling_policy=draw.choice(["fcfs", "priority"]),
            long_prefill_token_threshold=draw.choice([0, 0, 3]),
            async_scheduling=draw.random() < 0.7,
            check_invariants=True,
        ),
        num_blocks=draw.choice([6, 10, 16, 40]),
        block_size=draw.choice([1, 2, 4]),
        enable_prefix_caching=draw.random() < 0.9,
        max_model_len=draw.choice([20, 40]),
        expected_tokens=draw.choice([1, 1, 8, 256]),
        num_tokens_at_once=draw.choice([1, 1, 1, 2, 5]),
        max_num_leased_blocks=draw.choice([0, 2, 5]),
        num_stages=draw.choice([1, 1, 2, 3]),
    )


def random_request(draw: random.Random) -> AddRequest:
    max_tokens = draw.randint(1, 12)
    pooling = draw.choice([None, None, None, None, None, "last", "mean"])
    has_output = pooling is None and draw.random() < 0.2
    prompt = draw.choice(BEGINNINGS) + draw.choices(range(2), k=draw.randint(1, 6))
    return AddRequest(
        request_id="template",
        prompt_token_ids=prompt,
        output_token_ids=draw.choices(range(2), k=draw.randint(0, max_tokens - 1)) if has_output else [],
        sampling=SamplingParams(
            seed=draw.randint(0, 2),
            max_tokens=max_tokens,
            min_tokens=draw.randint(0, max_tokens),
            stop_token_ids=draw.choice([[], [3], [0, 1, 2]]),
            prompt_logprobs=draw.choice([None, None, None, 1]),
        ),
        eos_token_ids=draw.choice([[], [VOCAB_SIZE - 1]]),
        priority=draw.randint(-1, 1),
        in_gaps=draw.random() < 0.3,
        cache_salt=draw.choice(["", "", "", "a", "b"]),
        pooling=pooling,
        age_seconds=1.0,
        leases=[Lease(draw.randint(0, len(prompt)), draw.choice([0.1, 3.0, 1e6])) for _ in range(draw.choice([0, 0, 1, 2]))],
        num_deaths=draw.choice([0, 0, 0, 0, 0, 1, 2, 3]),
    )


def random_event(life: EngineLife, draw: random.Random) -> None:
    """Mostly requests and steps; now and then what should not happen."""
    chance = draw.random()
    if chance < 0.15:
        life.add(random_request(draw), draw.choice([1, 1, 2, 4]))
    elif chance < 0.20 and life.clients:
        request_ids = draw.sample(sorted(life.clients), draw.randint(1, min(3, len(life.clients))))
        life.abort(request_ids, is_added_again=draw.random() < 0.5)
    elif chance < 0.25 and life.in_flight:
        request_ids = [entry.request_id for entry in life.in_flight[0].scheduled]
        life.answer(frozenset(draw.choices(request_ids, k=draw.randint(1, 2))))
    elif chance < 0.26 and life.in_flight:
        life.answer(loses_an_answer=True)
    elif chance < 0.27:
        life.replace_workers()
    elif chance < 0.28:
        life.forget_all_prefixes()
    elif chance < 0.29 and life.dead_steps:
        life.answer_of_dead_workers()
    elif chance < 0.62 and len(life.in_flight) < MAX_NUM_IN_FLIGHT:
        life.schedule()
    elif life.in_flight:
        life.answer()


@pytest.mark.parametrize("first_seed", range(0, NUM_RANDOM_LIVES, 50))
def test_in_long_random_lives_every_request_gets_the_tokens_of_a_lone_run(first_seed):
    for seed in range(first_seed, first_seed + 50):
        draw = random.Random(seed)
        life = EngineLife(random_shape(draw))
        for _ in range(NUM_EVENTS):
            random_event(life, draw)
        life.finish()


class EngineMachine(RuleBasedStateMachine):
    """The same, with the order of events chosen, and shortened when it fails, by hypothesis."""

    life: EngineLife

    @initialize(draw=st.randoms(use_true_random=False))
    def start(self, draw):
        self.life = EngineLife(random_shape(draw))

    @rule(draw=st.randoms(use_true_random=False), num_choices=st.sampled_from([1, 2, 4]))
    def add(self, draw, num_choices):
        self.life.add(random_request(draw), num_choices)

    @precondition(lambda self: self.life.clients)
    @rule(data=st.data(), is_added_again=st.booleans())
    def abort(self, data, is_added_again):
        self.life.abort([data.draw(st.sampled_from(sorted(self.life.clients)))], is_added_again=is_added_again)

    @precondition(lambda self: self.life.clients)
    @rule(data=st.data())
    def add_again(self, data):
        self.life.add_again(data.draw(st.sampled_from(sorted(self.life.clients))))

    @precondition(lambda self: len(self.life.in_flight) < MAX_NUM_IN_FLIGHT)
    @rule()
    def schedule(self):
        self.life.schedule()

    @precondition(lambda self: self.life.in_flight)
    @rule()
    def answer(self):
        self.life.answer()

    @rule(num_steps=st.integers(2, 6))
    def take_steps(self, num_steps):
        for _ in range(num_steps):
            self.life.take_step()

    @precondition(lambda self: self.life.in_flight)
    @rule(data=st.data())
    def answer_with_a_fault(self, data):
        request_ids = sorted(entry.request_id for entry in self.life.in_flight[0].scheduled)
        self.life.answer(frozenset([data.draw(st.sampled_from(request_ids))]))

    @precondition(lambda self: self.life.in_flight)
    @rule()
    def lose_an_answer(self):
        self.life.answer(loses_an_answer=True)

    @rule()
    def replace_workers(self):
        self.life.replace_workers()

    @precondition(lambda self: self.life.dead_steps)
    @rule()
    def answer_of_dead_workers(self):
        self.life.answer_of_dead_workers()

    @rule()
    def forget_all_prefixes(self):
        self.life.forget_all_prefixes()

    def teardown(self):
        if hasattr(self, "life"):
            self.life.finish()


TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
