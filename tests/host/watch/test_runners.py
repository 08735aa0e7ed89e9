"""The watch behind both of vLLM's interfaces, on batches as its model runners make them."""

from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from router.host.watch.requests import Watches
from router.host.watch.table import KEY, VARIABLE
from router.watched import WatchSettings

torch = pytest.importorskip("torch")
pytest.importorskip("vllm", reason="vLLM's interfaces are needed")
pytestmark = pytest.mark.filterwarnings("ignore")

VOCABULARY, STOP, EVERY = 300, 7, 6
HOPELESS = {"statistic": "tokens", "knots": ((EVERY, 0),)}


class First:
    """vLLM's first runner: rows by their index in a batch that is packed anew, answers as lists of token ids."""

    def __init__(self):
        from router.host.watch.first_runner import WatchProcessor

        self.processor = WatchProcessor(None, torch.device("cpu"), False)
        self.outputs = []  # of each row

    def add(self, args):
        self.update(added=[(len(self.outputs), params(args), [1, 2], [])])

    def update(self, removed=(), added=(), moved=()):
        from vllm.v1.sample.logits_processor import BatchUpdate

        for index, _, _, output in added:
            self.outputs[index : index + 1] = [output]
        self.processor.update_state(BatchUpdate(len(self.outputs), list(removed), list(added), list(moved)))

    def step(self, rows, *, unfinished=()):
        logits = torch.from_numpy(np.array(rows, np.float32))
        found = self.processor.apply(logits)
        assert found is logits
        for index, output in enumerate(self.outputs):
            if index not in unfinished:
                output.append(int(logits[index].argmax()))
        return logits.numpy()


class Second:
    """vLLM's second runner: rows by its own slots, in any order, and lengths on the host."""

    def __init__(self):
        from router.host.watch.second_runner import WatchProcessor

        self.prompt, self.prefill = np.zeros(8, np.int32), np.zeros(8, np.int32)
        tensors = {"prompt_len": SimpleNamespace(np=self.prompt), "prefill_len": SimpleNamespace(np=self.prefill)}
        self.processor = WatchProcessor(None, SimpleNamespace(max_num_reqs=8, device=torch.device("cpu"), **tensors))
        self.lengths = {}  # of each slot, tokens before the one to be sampled

    def add(self, args, *, prompt=2, read=None):
        slot = 7 - len(self.lengths)
        self.prompt[slot], self.prefill[slot] = prompt, prompt
        self.lengths[slot] = prompt if read is None else read
        return self.processor.add_request(slot, params(args))

    def step(self, rows, *, unfinished=()):
        order = list(self.lengths)[::-1]
        logits = torch.from_numpy(np.array(rows, np.float32)[::-1].copy())
        lengths = np.array([self.lengths[slot] for slot in order], np.int32)
        context = SimpleNamespace(idx_mapping_np=np.array(order, np.int32), seq_lens_upper_bound_np=lengths)
        assert self.processor.apply(logits, context) is logits
        for at, slot in enumerate(self.lengths):
            if at not in unfinished:
                self.lengths[slot] += 1
        return logits.numpy()[::-1]


def params(args):
    return SimpleNamespace(extra_args=args)


@pytest.fixture(params=[First, Second], ids=["first", "second"])
def runner(request, table):
    return request.param()


@pytest.fixture
def watches(table):
    return Watches(table)


def watched(watches, **given):
    return watches.begin(msgspec.json.encode(WatchSettings(**given)))


def rows_of(count, seed=0):
    return np.random.default_rng(seed).normal(0, 3, (count, VOCABULARY)).astype(np.float32)


def stops(logits):
    return [np.flatnonzero(np.isfinite(row)).tolist() == [STOP] for row in logits]


def test_an_answer_is_stopped_and_its_neighbours_are_not(runner, watches):
    hopeless, other = watched(watches, **HOPELESS), watched(watches)
    for args in (hopeless.extra_args, None, other.extra_args, {"a clients": 1}):
        runner.add(args)
    for step in range(EVERY + 3):
        rows = rows_of(4, seed=step)
        found = runner.step(rows)
        assert stops(found) == [step == EVERY, False, False, False]
        np.testing.assert_array_equal(found[[1, 3]], rows[[1, 3]])
    assert hopeless.figures(EVERY + 1).tokens == EVERY + 1
    assert other.figures(EVERY + 3).tokens == EVERY + 3
    assert hopeless.stopped("stop", STOP, EVERY + 1)


def test_the_row_after_a_stop_leaves_its_figures(runner, watches):
    watch = watched(watches, **HOPELESS)
    runner.add(watch.extra_args)
    for step in range(EVERY + 1):
        runner.step(rows_of(1, seed=step))
    wanted = watch.figures(EVERY + 1)
    runner.step(rows_of(1, seed=99))
    assert watch.figures(EVERY + 1) == wanted


def test_only_what_our_host_signed_is_watched(runner, table):
    for args in ({KEY: ["wrong", 0, 1]}, {KEY: "x"}, {KEY: [table.seal, 99, 1]}, {KEY: [table.seal, 0, 1]}):
        runner.add(args)
    rows = rows_of(4)
    np.testing.assert_array_equal(runner.step(rows), rows)
    assert not table.states.any()


def test_a_client_that_gives_the_key_is_refused_at_the_door(runner, table, watches):
    refuse = type(runner.processor).validate_params
    with pytest.raises(ValueError, match="vllm_xargs: headgate_watch is reserved"):
        refuse(params({KEY: ["guess", 0, 1]}))
    refuse(params(None))
    refuse(params(watched(watches).extra_args))


def test_an_engine_without_a_table_watches_nothing(monkeypatch, table, watches):
    monkeypatch.delenv(VARIABLE)
    for runner in (First(), Second()):
        runner.add(watched(watches, **HOPELESS).extra_args)
        rows = rows_of(1)
        np.testing.assert_array_equal(runner.step(rows), rows)


def test_what_breaks_in_a_step_ends_the_watch_and_not_the_engine(runner, watches, capsys):
    runner.add(watched(watches, **HOPELESS).extra_args)
    narrow = np.zeros((1, VOCABULARY - 1), np.float32)
    for _ in range(3):
        np.testing.assert_array_equal(runner.step(narrow), narrow)
    said = capsys.readouterr().err.splitlines()
    why = f"ValueError: logits: expected rows of {VOCABULARY} neighbouring values, got 299"
    assert said == [f"headgate: nothing is watched any more: {why}"]


def test_rows_of_an_unfinished_prompt_do_not_count_in_the_first_runner(table, watches):
    runner, watch = First(), watched(watches, **HOPELESS)
    runner.add(watch.extra_args)
    for step in range(4):
        runner.step(rows_of(1, seed=step), unfinished=[0])
    for step in range(EVERY + 1):
        assert stops(runner.step(rows_of(1, seed=step))) == [step == EVERY]


def test_rows_of_an_unfinished_prompt_do_not_count_in_the_second_runner(table, watches):
    runner, watch = Second(), watched(watches, **HOPELESS)
    runner.add(watch.extra_args, prompt=9, read=7)
    rows = rows_of(1)
    np.testing.assert_array_equal(runner.step(rows), rows)
    np.testing.assert_array_equal(runner.step(rows), rows)
    assert watch.figures(1) is None
    runner.step(rows)
    assert watch.figures(1).tokens == 1


def test_the_first_runners_rows_move_with_its_batch(table, watches):
    from vllm.v1.sample.logits_processor import MoveDirectionality

    runner, one, other = First(), watched(watches), watched(watches, **HOPELESS)
    runner.add(None)
    runner.add(one.extra_args)
    runner.add(other.extra_args)
    runner.step(rows_of(3))
    outputs = runner.outputs
    runner.outputs = [outputs[2], outputs[1]]  # the first row left, and the last took its place
    runner.update(removed=[0], moved=[(2, 0, MoveDirectionality.UNIDIRECTIONAL)])
    runner.step(rows_of(2))
    runner.outputs = runner.outputs[::-1]
    runner.update(moved=[(0, 1, MoveDirectionality.SWAP)])
    for step in range(2, EVERY + 1):
        assert stops(runner.step(rows_of(2, seed=step))) == [False, step == EVERY]
    assert one.figures(EVERY + 1).tokens == EVERY + 1


def test_a_new_request_in_a_row_of_the_first_runner_takes_nothing_over(table, watches):
    runner, gone = First(), watched(watches, **HOPELESS)
    runner.add(gone.extra_args)
    runner.step(rows_of(1))
    runner.update(added=[(0, params(None), [1], [])])
    for step in range(EVERY + 2):
        assert stops(runner.step(rows_of(1, seed=step))) == [False]


def test_an_answer_that_was_put_off_goes_on_where_it_was_in_the_first_runner(table, watches):
    runner, watch = First(), watched(watches, **HOPELESS)
    runner.add(watch.extra_args)
    for step in range(3):
        runner.step(rows_of(1, seed=step))
    before, output = watch.figures(3), runner.outputs[0]
    runner.outputs = []
    runner.update(removed=[0])
    runner.update(added=[(0, params(watch.extra_args), [1, 2], output)])
    runner.step(rows_of(1, seed=9), unfinished=[0])  # its prompt and answer are read anew, in two steps
    assert watch.figures(3) == before
    for step in range(3, EVERY + 1):
        assert stops(runner.step(rows_of(1, seed=step))) == [step == EVERY]
    assert watch.figures(EVERY + 1).tokens == EVERY + 1


def test_an_answer_that_was_put_off_goes_on_where_it_was_in_the_second_runner(table, watches):
    runner, watch = Second(), watched(watches, **HOPELESS)
    runner.add(watch.extra_args)
    for step in range(3):
        runner.step(rows_of(1, seed=step))
    runner.prefill[7] = 5  # prompt and answer are read anew, in two steps
    runner.processor.add_request(7, params(watch.extra_args))
    runner.lengths[7] = 4
    runner.step(rows_of(1, seed=9))
    for step in range(3, EVERY + 1):
        assert stops(runner.step(rows_of(1, seed=step))) == [step == EVERY]
    assert watch.figures(EVERY + 1).tokens == EVERY + 1


def test_the_second_runners_slot_is_given_to_others(table, watches):
    runner = Second()
    assert runner.add(watched(watches, **HOPELESS).extra_args)
    assert not runner.processor.add_request(7, params(None))
    rows = rows_of(1)
    np.testing.assert_array_equal(runner.step(rows), rows)


def test_several_rows_a_request_are_not_watched_in_the_second_runner(table, watches):
    runner = Second()
    runner.add(watched(watches, **HOPELESS).extra_args)
    rows = rows_of(3)
    np.testing.assert_array_equal(runner.step(rows), rows)


def test_the_first_runner_is_never_left_out_for_greedy_rows(table):
    assert First().processor.is_argmax_invariant() is False
    from vllm.v1.sample.logits_processor import LogitsProcessor

    assert isinstance(First().processor, LogitsProcessor)


def test_the_second_runners_class_is_of_its_interface(table):
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor

    assert isinstance(Second().processor, LogitsProcessor)
