"""Batches of a training: the steps left of it, shared between its processes."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from training.data.source import ENDLESS
from training.fitting.stream_data import StepSampler, StreamData
from training_tools import TINY, Numbers


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
