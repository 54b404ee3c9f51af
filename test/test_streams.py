"""Streams of items: every position its own, whatever the workers, processes and restarts."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from torch.utils.data import DataLoader

from training.data.source import ENDLESS
from training.data.streams import TRAIN, VALIDATION, StepSampler, Stream, StreamData
from training_tools import TINY


class Numbers:
    """Items that show their index and what their generator draws first."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def item(self, index, rng):
        return {"index": torch.tensor(index), "draw": torch.tensor(rng.random())}


def column(stream, key, n):
    return [stream[i][key].item() for i in range(n)]


def test_every_pass_shows_all_items_in_a_new_order():
    stream = Stream(Numbers(7), TRAIN, seed=1, length=100)
    passes = [column(stream, "index", 21)[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(order) == list(range(7)) for order in passes)
    assert passes[0] != passes[1] != passes[2]
    assert column(Stream(Numbers(7), TRAIN, 1, 100), "index", 21) == sum(passes, [])
    assert column(Stream(Numbers(7), TRAIN, 2, 100), "index", 21) != sum(passes, [])
    assert stream[15]["index"] == passes[2][1]  # in any order


def test_validation_and_endless_items_keep_their_order():
    assert column(Stream(Numbers(7), VALIDATION, 1, 7), "index", 7) == list(range(7))
    assert column(Stream(Numbers(ENDLESS), TRAIN, 1, 9), "index", 9) == list(range(9))


def test_no_two_positions_share_their_random_numbers():
    """Also where a finite set comes round again, and in other streams."""
    draws = column(Stream(Numbers(7), TRAIN, 0, 70), "draw", 70)
    draws += column(Stream(Numbers(7), VALIDATION, 0, 7), "draw", 7)
    assert len(set(draws)) == 77


def test_workers_change_nothing_and_never_repeat_each_other():
    """Two loader processes give exactly what none gives: no random stream is theirs."""
    loaded = []
    for workers in (0, 2):
        loader = DataLoader(Stream(Numbers(50), TRAIN, 0, 40), 4, num_workers=workers)
        loaded.append([(b["index"].tolist(), b["draw"].tolist()) for b in loader])
    assert loaded[0] == loaded[1]
    draws = [draw for _, batch in loaded[1] for draw in batch]
    assert len(set(draws)) == 40


def test_steps_continue_the_stream():
    """Where the trainer's steps have come to, shared between its processes."""
    trainer = SimpleNamespace(global_step=0, global_rank=0, world_size=1)
    sampler = StepSampler(trainer, steps=4, batch_size=2)
    assert list(sampler) == [0, 1, 2, 3, 4, 5, 6, 7] and len(sampler) == 8
    trainer.global_step = 3
    assert list(sampler) == [6, 7]
    ranks = [SimpleNamespace(global_step=3, global_rank=rank, world_size=2) for rank in range(2)]
    shares = [list(StepSampler(rank, steps=6, batch_size=2)) for rank in ranks]
    assert shares == [[12, 14, 16, 18, 20, 22], [13, 15, 17, 19, 21, 23]]


def test_processes_share_the_batches_and_the_validation():
    shares = []
    for rank in range(2):
        optim = replace(TINY.optim, max_steps=2)
        data = StreamData(Numbers(ENDLESS), Numbers(5), TINY.data, optim, seed=0)
        data.trainer = SimpleNamespace(global_step=0, global_rank=rank, world_size=2)
        training = [b["index"].tolist() for b in data.train_dataloader()]
        validation = sum((b["index"].tolist() for b in data.val_dataloader()), [])
        shares.append((training, validation))
    assert [s[0] for s in shares] == [[[0, 2], [4, 6]], [[1, 3], [5, 7]]]
    assert [s[1] for s in shares] == [[0], [1]]  # two validation images
    np.testing.assert_array_equal(sorted(sum(sum((s[0] for s in shares), []), [])), range(8))
