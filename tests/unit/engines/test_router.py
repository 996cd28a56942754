"""Router: a request goes where its prompt is known, unless another engine has that much less to do."""

from __future__ import annotations

import random

import pytest

from yeoul.engines.router import MAX_PREFIX_TOKENS, PIECE_TOKENS, REQUEST_COST, Router, keys_of

LONG = list(range(10 * PIECE_TOKENS))


def router(num_engines: int = 2, num_cache_tokens: int = 100_000) -> Router:
    made = Router(num_engines)
    for engine in range(num_engines):
        made.begin(engine, num_cache_tokens)
    return made


def chosen(made: Router, tokens: list[int], *loads: dict[str, int] | None, tenant: str = "", num_requests: int = 1) -> int:
    keys = keys_of(tokens, "")
    choice = made.choose(keys, len(tokens), num_requests, tenant, loads)
    made.note_sent(choice.engine, keys)
    return choice.engine


def test_who_comes_again_goes_where_the_beginning_of_the_prompt_is_known():
    made = router(3)
    first = chosen(made, LONG, {}, {}, {})
    for more in range(1, 5):
        assert chosen(made, [*LONG, *[7] * 100 * more], {}, {}, {}) == first
    assert made.choose(keys_of(LONG, ""), len(LONG), 1, "", [{}, {}, {}]).num_new_tokens == 0


def test_prompts_that_are_not_known_are_spread_evenly():
    made = router(4)
    engines = [chosen(made, [number] * 70, {}, {}, {}, {}) for number in range(40)]
    assert sorted(map(engines.count, range(4))) == [10] * 4


def test_a_loaded_engine_loses_against_an_idle_one_by_as_much_as_the_known_prefix_is_worth():
    made = router()
    first = chosen(made, LONG, {}, {})
    loads: list[dict[str, int]] = [{}, {}]
    loads[first] = {"": len(LONG) - 1}
    assert chosen(made, LONG, *loads) == first
    made = router()
    first = chosen(made, LONG, {}, {})
    loads[first] = {"": len(LONG) + 1}
    assert chosen(made, LONG, *loads) != first
    assert chosen(made, LONG, *loads) != first, "it is known in both now"


def test_a_prefix_for_all_is_known_everywhere_soon_and_no_engine_has_twice_the_requests_of_another():
    made, loads = router(4), [{"": 0} for _ in range(4)]
    counts = [0] * 4
    for number in range(200):
        engine = chosen(made, [*LONG, *[number] * 64], *loads)
        loads[engine][""] += REQUEST_COST
        counts[engine] += 1
    assert max(counts) <= min(counts) + 4


def test_another_tenants_crowd_is_no_more_in_the_way_than_the_turns_that_it_has():
    crowd = {"many": 100 * REQUEST_COST}
    mine = {"few": 10 * REQUEST_COST}
    made = router()
    assert chosen(made, [1], crowd, mine, tenant="few") == 0, "there it is the next but one"
    assert made.choose([], 1, 1, "few", [crowd, {"many": 50 * REQUEST_COST}]).engine == 1, "they are alike: it is its turn"
    assert chosen(router(), [1], crowd, mine, tenant="many") == 1


def test_an_engine_that_is_not_to_be_chosen_is_not():
    made = router(3)
    first = chosen(made, LONG, {}, {}, {})
    loads: list[dict[str, int] | None] = [{}, {}, {}]
    loads[first] = None
    assert chosen(made, LONG, *loads) != first


def test_an_engine_that_has_been_replaced_knows_nothing():
    made = router()
    first = chosen(made, LONG, {}, {})
    made.begin(first, 100_000)
    choice = made.choose(keys_of(LONG, ""), len(LONG), 1, "", [{}, {}])
    assert (choice.engine, choice.num_new_tokens) == (1 - first, len(LONG))


def test_it_remembers_as_much_as_a_cache_has_room_for_and_forgets_the_end_of_the_oldest_first():
    made = router(1, num_cache_tokens=15 * PIECE_TOKENS)
    chosen(made, LONG, {})
    chosen(made, [9] * len(LONG), {})
    assert made.choose(keys_of([9] * len(LONG), ""), len(LONG), 1, "", [{}]).num_new_tokens == 0
    assert made.choose(keys_of(LONG, ""), len(LONG), 1, "", [{}]).num_new_tokens == 5 * PIECE_TOKENS
    chosen(made, list(range(1000 * PIECE_TOKENS)), {})
    assert sum(map(len, made._known)) == 15


def test_a_piece_is_known_with_all_that_is_before_it_and_to_its_own_cache_salt():
    one, other = [1] * PIECE_TOKENS, [2] * PIECE_TOKENS
    assert keys_of(one + other, "")[0] == keys_of(one + one, "")[0]
    assert keys_of(one + one, "")[1] != keys_of(other + one, "")[1]
    assert not set(keys_of(LONG, "salt")) & set(keys_of(LONG, ""))
    assert keys_of([1] * (PIECE_TOKENS - 1), "") == []


def test_no_more_is_looked_up_of_a_prompt_than_the_loop_has_time_for():
    assert len(keys_of([5] * (2 * MAX_PREFIX_TOKENS), "")) == MAX_PREFIX_TOKENS // PIECE_TOKENS


@pytest.mark.parametrize("seed", range(5))
def test_whatever_comes_an_engine_that_may_be_chosen_is(seed):
    draw = random.Random(seed)
    made = router(5, 2000)
    for _ in range(300):
        loads = [draw.choice([None, {}, {"a": draw.randrange(5000), "b": draw.randrange(5000)}]) for _ in range(5)]
        loads[draw.randrange(5)] = {}
        tokens = [draw.randrange(2)] * draw.randrange(1, 3000)
        assert loads[chosen(made, tokens, *loads, tenant=draw.choice("abc"))] is not None
