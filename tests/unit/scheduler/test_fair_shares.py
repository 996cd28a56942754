"""The engine's time is shared between tenants by what they had, not by how many requests they send."""

from __future__ import annotations

from tests.unit.scheduler.desk import Desk, new_request
from yeoul.messages.requests import AddRequest


def crowd(tenant: str, count: int, prompt: int = 8, max_tokens: int = 4) -> list[AddRequest]:
    return [new_request(f"{tenant}{index}", prompt, max_tokens=max_tokens, tenant=tenant) for index in range(count)]


def order_of_ends(desk: Desk) -> list[str]:
    """The tenants in the order in which their requests ended."""
    ends = []
    while desk.scheduler.has_unfinished:
        step = desk.schedule()
        ends += [output.request_id.rstrip("0123456789") for output in desk.answer(step) if output.finish_reason is not None]
    return ends


def test_one_request_does_not_wait_behind_another_tenants_crowd():
    desk = Desk(max_num_seqs=1)
    desk.add(*crowd("many", 20))
    desk.take_step()
    desk.add(*crowd("few", 2))
    ends = order_of_ends(desk)
    assert ends.index("few") <= 1
    assert ends[:4].count("few") == 2


def test_two_crowds_get_the_same_although_one_sends_more():
    desk = Desk(max_num_seqs=2)
    desk.add(*crowd("many", 30), *crowd("less", 10))
    ends = order_of_ends(desk)
    assert 9 <= ends[:20].count("less") <= 10


def test_shares_are_of_tokens_not_of_requests():
    desk = Desk(max_num_seqs=1, num_blocks=128)
    desk.add(*crowd("long", 10, prompt=60, max_tokens=20), *crowd("short", 40, prompt=6, max_tokens=7))
    num_long = order_of_ends(desk)[:40].count("long")
    assert 5 <= num_long <= 8, "a long one costs 60 + 2 x 19, a short one 6 + 2 x 6: as much as five of them"


def test_who_was_away_has_no_claim_to_what_others_used_meanwhile():
    desk = Desk(max_num_seqs=1)
    desk.add(*crowd("early", 2))
    desk.run_to_end()
    desk.add(*(new_request(f"b{index}", 8, tenant="b") for index in range(10)))
    desk.run_to_end()
    desk.add(*crowd("early", 8), *(new_request(f"c{index}", 8, tenant="b") for index in range(8)))
    names = order_of_ends(desk)
    assert 3 <= names[:8].count("early") <= 5


def test_what_a_preemption_makes_computed_twice_is_not_paid_twice():
    desk = Desk(num_blocks=6, expected_tokens=1, enable_prefix_caching=False)
    desk.add(new_request("a", 4, max_tokens=16, tenant="a"), new_request("b", 4, max_tokens=16, tenant="b"))
    desk.run_to_end()
    assert desk.scheduler.statistics().total_preemptions > 0
    costs = {tenant: desk.scheduler._shares.cost_of(tenant) for tenant in "ab"}
    assert costs == {"a": 4 + 2 * 15, "b": 4 + 2 * 15}


def test_the_priority_comes_before_the_share():
    desk = Desk(max_num_seqs=1, scheduling_policy="priority")
    desk.add(*crowd("a", 3), new_request("urgent", 8, tenant="a", priority=-1), *crowd("b", 2))
    assert order_of_ends(desk)[0] == "urgent"


def test_how_little_was_left_for_those_who_fill_gaps_is_no_measure_for_others():
    desk = Desk(max_num_seqs=1)
    desk.add(new_request("gap", 8, max_tokens=2, in_gaps=True, tenant="batches"), *crowd("early", 10))
    for _ in range(30):
        desk.take_step()
    assert desk.scheduler.num_waiting > 0
    desk.add(*crowd("late", 10))
    assert order_of_ends(desk)[:6].count("late") <= 4, "who comes now does not catch up with what others have had"
