"""Loader processes."""

import signal

import cv2
import torch


def single_thread(_worker: int) -> None:
    """Limit a loader process to one thread: all of them share the cores with the training.

    Ctrl-C reaches the whole group; the training, which still needs its images, ends the others.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)  # one would wait for the threads of a parent that has used some
