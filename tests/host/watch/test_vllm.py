"""The watch in vLLM's own hands, without an engine: its loaders, its checks at the door, its sampler."""

import msgspec
import numpy as np
import pytest

from router.host.watch.install import PROCESSORS
from router.host.watch.requests import Watches
from router.host.watch.table import KEY
from router.watched import WatchSettings

torch = pytest.importorskip("torch")
pytest.importorskip("vllm", reason="vLLM's own classes are needed")
pytestmark = pytest.mark.filterwarnings("ignore")

VOCABULARY, STOP = 300, 7


def doors():
    """What vLLM calls with the parameters of each request, for both runners."""
    from vllm.v1.sample.logits_processor import validate_logits_processors_parameters
    from vllm.v1.worker.gpu.sample.logits_processor import build_custom_logits_processors_params_validator

    return [
        lambda params: validate_logits_processors_parameters([PROCESSORS[1]], params),
        build_custom_logits_processors_params_validator([PROCESSORS[2]]),
    ]


def test_vllm_refuses_a_client_that_gives_our_key_and_takes_ours(table):
    from vllm.exceptions import VLLMValidationError
    from vllm.sampling_params import SamplingParams

    ours = Watches(table).begin(b"{}").extra_args
    for check in doors():
        check(SamplingParams())
        check(SamplingParams(extra_args={"another": 1}))
        check(SamplingParams(extra_args=ours))
        with pytest.raises(VLLMValidationError, match="vllm_xargs: headgate_watch is reserved"):
            check(SamplingParams(extra_args={KEY: ["guess", 0, 1.0]}))


def sampled(processors, logits, **more):
    """The token that vLLM's sampler takes."""
    from vllm.v1.sample.metadata import SamplingMetadata
    from vllm.v1.sample.sampler import Sampler

    one = torch.ones(1)
    given = {
        "temperature": None,
        "all_greedy": True,
        "all_random": False,
        "top_p": None,
        "top_k": None,
        "generators": {},
        "max_num_logprobs": None,
        "no_penalties": True,
        "prompt_token_ids": torch.tensor([[3, 4]]),
        "frequency_penalties": 0 * one,
        "presence_penalties": 0 * one,
        "repetition_penalties": one,
        "output_token_ids": [[5, 6]],
        "allowed_token_ids_mask": None,
        "bad_words_token_ids": {},
        "logitsprocs": processors,
    }
    output = Sampler()(torch.from_numpy(logits), SamplingMetadata(**given | more))
    return int(output.sampled_token_ids[0, 0])


RANDOM = {"temperature": torch.tensor([1.5]), "all_greedy": False, "all_random": True}
ASKED = {
    "greedy": {},
    "random": RANDOM,
    "top_p, top_k": RANDOM | {"top_p": torch.tensor([0.5]), "top_k": torch.tensor([5], dtype=torch.int32)},
    "penalties": {
        "no_penalties": False,
        "frequency_penalties": torch.tensor([2.0]),
        "presence_penalties": torch.tensor([2.0]),
        "repetition_penalties": torch.tensor([1.5]),
        "output_token_ids": [[STOP, STOP]],
    },
    "allowed_token_ids without it": {"allowed_token_ids_mask": torch.arange(VOCABULARY)[None, :] < 100},
    "bad_words": {"bad_words_token_ids": {0: [[STOP]]}},
    "logprobs": {"max_num_logprobs": 2},
}


@pytest.mark.parametrize("more", ASKED.values(), ids=ASKED)
def test_of_a_stopped_row_vllms_sampler_can_only_take_the_reserved_token(table, more):
    from vllm.sampling_params import SamplingParams
    from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessors

    from router.host.watch.first_runner import WatchProcessor

    watch = Watches(table).begin(msgspec.json.encode(WatchSettings(statistic="tokens", knots=((0, 0.0),))))
    processor, output = WatchProcessor(None, torch.device("cpu"), False), []
    params = SamplingParams(extra_args=watch.extra_args)
    processor.update_state(BatchUpdate(1, [], [(0, params, [3, 4], output)], []))
    logits = np.random.default_rng(0).normal(0, 3, (1, VOCABULARY)).astype(np.float32)
    assert sampled(LogitsProcessors([processor]), logits.copy(), **more) == STOP
    assert sampled(LogitsProcessors(), logits.copy(), **more | {"bad_words_token_ids": {0: [[STOP]]}}) != STOP
