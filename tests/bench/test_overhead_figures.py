"""Ratios of the overhead bench: ours to the other's, run by run, bare and full apart; and the heads that it sends."""

import overhead
import pytest


def samples(*cpu_us):
    return [overhead.Sample(cpu, 1000.0, 1.0, 2.0) for cpu in cpu_us]


def test_bare_and_full_ratios_are_medians_of_pairs_of_runs():
    found = overhead.figures(
        {
            ("headgate", False): samples(20.0, 30.0, 40.0),
            ("headgate", True): samples(25.0, 50.0, 60.0),
            ("vllm-router", False): samples(100.0, 200.0, 100.0),
            ("vllm-router", True): samples(100.0, 100.0, 200.0),
            ("litellm", False): samples(1000.0, 1000.0, 1000.0),
            ("litellm", True): samples(1000.0, 1000.0, 1000.0),
        }
    )
    assert (found["ratio"], found["ratio_full"]) == (0.2, 0.3)
    assert (found["headgate_cpu_us"], found["headgate_full_cpu_us"]) == (30.0, 50.0)
    assert found["peers"]["litellm"]["full"]["ratio"]["median"] == 0.05


def test_without_vllm_router_there_is_no_ratio():
    found = overhead.figures({("headgate", False): samples(20.0), ("headgate", True): samples(25.0)})
    assert (found["ratio"], found["ratio_full"]) == (None, None)


@pytest.mark.parametrize(("full", "named"), [(False, 0), (True, 3)])
def test_full_requests_have_an_id_a_trace_and_a_key_of_the_form_that_is_taken(full, named):
    made = overhead.Contestant("headgate", full, None, [b"{}", b"{}"]).requests()
    assert made[0] != made[1] or not full
    heads = [request.partition(b"\r\n\r\n")[0].decode().split("\r\n") for request in made]
    lines = [line for line in heads[1] if line.split(":")[0] in ("x-request-id", "traceparent", "authorization")]
    assert len(lines) == named
    if full:
        assert lines[1] == f"traceparent: 00-{2:032x}-{2:016x}-01"
        assert lines[2] == "authorization: Bearer " + overhead.API_KEY
