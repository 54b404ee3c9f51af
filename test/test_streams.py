"""Streams of items: every position its own, whatever the workers, processes and restarts."""

from torch.utils.data import DataLoader

from training.data.source import ENDLESS
from training.data.streams import TRAIN, VALIDATION, Stream
from training_tools import Numbers


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
