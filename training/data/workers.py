"""Loader processes."""

import signal

import cv2
import torch


def single_thread(_worker: int) -> None:
    """For `worker_init_fn`: the processes share the cores, with each other and the training.

    Ctrl-C reaches the whole group; the training, which still needs its images, ends the others.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
