"""The load meter: what a router can rely on."""

import pytest

from router.host.load import LoadMeter, Ratio


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
