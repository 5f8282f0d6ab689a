"""The simulation of many machines, on cases small enough to be counted by hand."""

import math
from dataclasses import replace

import pytest

from cluster_simulation import (
    CaseCost,
    Clock,
    Cluster,
    HeadCost,
    SharedRate,
    draw_cases,
    simulate,
)


def times_of_users(total, each, starts, amount=10.0):
    clock, ends = Clock(), []
    rate = SharedRate(clock, total, each)
    for start in starts:
        clock.at(start, lambda: rate.take(amount, lambda: ends.append(clock.now)))
    clock.run()
    return ends


def test_users_of_a_rate_share_it_evenly():
    # One alone for 5 s has half of its amount; both have the other half at half speed.
    assert times_of_users(1.0, 1.0, (0, 5)) == pytest.approx([15, 20])


def test_no_user_gets_more_than_its_own_limit():
    assert times_of_users(100.0, 2.0, (0, 0, 0)) == pytest.approx([5, 5, 5])


def test_workers_load_then_share_the_cases():
    outcome = simulate([CaseCost(2.0)] * 6, Cluster(workers=3, load_s=1.0))
    assert outcome.seconds == pytest.approx(5.0)
    assert (outcome.computed_s, outcome.held_s) == pytest.approx((12.0, 15.0))
    assert outcome.done == [1] * 6


def test_the_store_limits_all_together():
    cases = [CaseCost(1.0, read_mb=10.0)] * 4
    outcome = simulate(cases, Cluster(workers=4, store_mb_s=10.0))
    assert outcome.seconds == pytest.approx(5.0)
    assert outcome.read_mb == pytest.approx(40.0)


def test_a_head_hands_out_one_case_at_a_time():
    # Ten workers ready at once, and ten more messages at the end: the head works all the time.
    cluster = Cluster(workers=10, head=HeadCost(event_s=1.0))
    outcome = simulate([CaseCost(0.5)] * 10, cluster)
    assert outcome.seconds == pytest.approx(20.0)
    assert outcome.head_busy_s == pytest.approx(20.0)


def test_messages_of_more_workers_take_a_head_longer():
    def busy_s(workers):
        cluster = Cluster(workers, head=HeadCost(event_per_worker_s=0.1))
        return simulate([CaseCost(0.0)] * 100, cluster).head_busy_s

    assert busy_s(50) > 10 * busy_s(2)


def test_each_shard_reads_the_whole_manifest():
    cluster = Cluster(workers=4, heads=4, head=HeadCost(line_s=1.0), manifest_mb=3.0)
    outcome = simulate([CaseCost(1.0)] * 8, cluster)
    assert outcome.read_mb == pytest.approx(12.0)
    assert outcome.seconds == pytest.approx(8 + 2)


def test_shares_fixed_beforehand_wait_for_the_slowest():
    cases = [CaseCost(10.0), CaseCost(1.0)] * 3
    assert simulate(cases, Cluster(workers=2, heads=2)).seconds == pytest.approx(30.0)
    assert simulate(cases, Cluster(workers=2)).seconds < 25


def test_a_lost_worker_costs_time_and_no_case():
    cases = [CaseCost(3600.0)] * 40
    outcome = simulate(cases, Cluster(workers=4, mtbf_h=20.0))
    assert outcome.retried > 0
    assert sum(outcome.done) + outcome.given_up == 40
    assert max(outcome.done) == 1
    assert outcome.seconds > simulate(cases, Cluster(workers=4)).seconds


def test_cases_that_always_lose_their_worker_are_given_up():
    outcome = simulate([CaseCost(1e6)] * 5, Cluster(workers=2, mtbf_h=1e-3))
    assert (outcome.given_up, outcome.retried, sum(outcome.done)) == (5, 5, 0)


def test_slow_workers_lengthen_a_run():
    cases = [CaseCost(1.0)] * 20
    assert simulate(cases, Cluster(2, slow_share=1.0, slow_factor=3.0)).seconds == 30.0


def test_the_same_seed_gives_the_same_run():
    cases = draw_cases([CaseCost(1.0, 2.0), CaseCost(5.0, 9.0)], 200, seed=3)
    cluster = Cluster(8, mtbf_h=0.05, store_mb_s=50.0, link_mb_s=20.0, slow_share=0.2)
    assert simulate(cases, cluster, seed=1) == simulate(cases, cluster, seed=1)


def test_without_a_limit_no_run_takes_longer():
    cases = draw_cases([CaseCost(1.0, 2.0), CaseCost(5.0, 9.0)], 300, seed=3)
    cluster = Cluster(
        30, head=HeadCost(event_s=0.05), store_mb_s=20.0, case_operations=10.0,
        store_operations_s=50.0,
    )  # fmt: skip
    whole_s = simulate(cases, cluster).seconds
    limits = {"head": HeadCost(), "store_mb_s": math.inf, "store_operations_s": math.inf}
    times_s = {
        name: simulate(cases, replace(cluster, **{name: free})).seconds
        for name, free in limits.items()
    }
    # The last cases may meet at the store, which takes no more than a tenth.
    assert all(time_s <= 1.1 * whole_s for time_s in times_s.values())
    assert min(times_s, key=times_s.__getitem__) == "store_mb_s"


def test_fewer_workers_than_heads_are_refused():
    with pytest.raises(ValueError, match="3 heads for 2 workers"):
        simulate([CaseCost(1.0)], Cluster(workers=2, heads=3))
