"""The load meter: what a router can rely on."""

import pytest

from router.host.load import LoadMeter, Ratio
from router.steps import StepSums


def test_an_idle_engine_has_no_load():
    load = LoadMeter().load(0)
    assert (load.running, load.waiting, load.kv_use) == (0, 0, 0.0)
    assert (load.prefill_tokens_per_s, load.time_per_output_token_s) == (0.0, 0.0)


def test_what_the_scheduler_has_not_seen_yet_waits():
    meter = LoadMeter()
    meter.scheduled(0, running=2, waiting=1, kv_use=0.5)
    load = meter.load(unfinished=5)
    assert (load.running, load.waiting, load.kv_use) == (2, 3, 0.5)


def test_an_abort_shows_although_no_step_tells_of_it():
    meter = LoadMeter()
    meter.scheduled(0, running=2, waiting=0, kv_use=0.5)
    load = meter.load(unfinished=0)
    assert (load.running, load.waiting, load.kv_use) == (0, 0, 0.0)


def test_rates_of_a_steady_batch():
    meter = LoadMeter()
    for step in range(200):
        meter.scheduled(0, running=4, waiting=0, kv_use=0.1)
        meter.stepped(step * 0.01, streams=4, tokens=4)
    load = meter.load(4)
    assert load.time_per_output_token_s == pytest.approx(0.01)


def test_speculation_gives_more_than_a_token_a_step():
    meter = LoadMeter()
    for step in range(200):
        meter.scheduled(0, running=2, waiting=0, kv_use=0.1)
        meter.stepped(step * 0.01, streams=2, tokens=6)
    assert meter.load(2).time_per_output_token_s == pytest.approx(0.01 / 3)


def test_the_pause_before_a_request_is_not_the_engines_pace():
    meter = LoadMeter()
    meter.scheduled(0, running=1, waiting=0, kv_use=0.1)
    meter.stepped(0.0, 1, 1)
    meter.stepped(0.01, 1, 1)
    meter.scheduled(0, running=0, waiting=0, kv_use=0.0)
    meter.stepped(60.0, 1, 1)
    assert meter.load(1).time_per_output_token_s == pytest.approx(0.01)


def test_one_compilation_does_not_pass_for_the_norm():
    rate = Ratio()
    for _ in range(50):
        rate.add(100, 0.01)
    rate.add(100, 20.0)
    assert rate.value > 7_000
    for _ in range(400):
        rate.add(100, 0.1)
    assert rate.value == pytest.approx(1_000, rel=0.02)  # but a lasting change is followed


def test_prefix_hits_and_prefill():
    meter = LoadMeter()
    meter.looked_up(100, 75)
    meter.prefilled(1000, 0.1)
    load = meter.load(0)
    assert load.prefix_hit == pytest.approx(0.75)
    assert load.prefill_tokens_per_s == pytest.approx(10_000)


def test_ranks_are_summed():
    meter = LoadMeter()
    meter.scheduled(0, 2, 0, 0.2)
    meter.scheduled(1, 3, 0, 0.6)
    load = meter.load(6)
    assert (load.running, load.waiting, load.kv_use) == (5, 1, 0.6)


def test_steps_are_summed_with_the_tokens_that_their_sequences_hold():
    meter = LoadMeter()
    meter.began(prompt=100, computed=60, scheduled_s=10.0)
    meter.stepped(10.05, streams=1, tokens=1)
    meter.scheduled(0, running=1, waiting=0, kv_use=0.1)
    for step in range(1, 4):
        meter.stepped(10.05 + step * 0.01, streams=1, tokens=1)
        meter.scheduled(0, running=1, waiting=0, kv_use=0.1)
    load = meter.load(1)
    sums = load.sums
    assert (sums.rows, sums.steps, sums.running, sums.prefill, sums.cut) == (4, 4, 4, 60, 0)
    assert sums.context == 100 + 101 + 102 + 103
    assert sums.seconds == pytest.approx(0.08)
    assert sums.prefill_seconds == pytest.approx(60 * 0.05)
    assert load.context_tokens == 104


def test_a_sequence_that_ends_holds_nothing_more_and_an_idle_engine_holds_nothing():
    meter = LoadMeter()
    meter.began(prompt=100, computed=100, scheduled_s=10.0)
    meter.began(prompt=50, computed=50, scheduled_s=10.0)
    meter.stepped(10.1, streams=2, tokens=2)
    meter.scheduled(0, running=2, waiting=0, kv_use=0.1)
    meter.ended(102)
    meter.stepped(10.2, streams=2, tokens=2)
    meter.scheduled(0, running=1, waiting=0, kv_use=0.1)
    load = meter.load(1)
    assert load.context_tokens == 52
    assert (load.sums.rows, load.sums.context) == (2, 150 + 152)
    assert meter.load(0).context_tokens == 0


def test_a_prompt_read_in_pieces_beside_a_running_sequence_is_one_row():
    meter = LoadMeter()
    meter.began(prompt=10, computed=10, scheduled_s=9.9)
    meter.stepped(10.0, streams=1, tokens=1)
    meter.scheduled(0, running=1, waiting=0, kv_use=0.1)
    for step in range(1, 4):
        meter.stepped(10.0 + step * 0.1, streams=1, tokens=1)
        meter.scheduled(0, running=2, waiting=0, kv_use=0.1)  # the second one is being read
    meter.began(prompt=4_000, computed=4_000, scheduled_s=10.05)
    meter.stepped(10.4, streams=2, tokens=2)
    meter.scheduled(0, running=2, waiting=0, kv_use=0.1)
    sums = meter.load(2).sums
    assert (sums.rows, sums.steps, sums.prefill) == (2, 5, 4_010)
    assert sums.seconds == pytest.approx(0.5)


def test_what_was_counted_anew_takes_the_place_of_what_is_held():
    meter = LoadMeter()
    meter.began(prompt=100, computed=100, scheduled_s=10.0)
    meter.stepped(10.1, streams=1, tokens=1)
    meter.holds(7)
    assert meter.load(1).context_tokens == 7


def test_steps_of_several_ranks_are_not_summed():
    meter = LoadMeter()
    for engine in (0, 1):
        meter.began(prompt=100, computed=100, scheduled_s=10.0)
        meter.stepped(10.1 + engine, streams=1, tokens=1)
        meter.scheduled(engine, running=1, waiting=0, kv_use=0.1)
    assert meter.load(2).sums == StepSums()
