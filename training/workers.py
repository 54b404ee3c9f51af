"""Loader processes."""

import cv2
import torch


def single_thread(_worker: int) -> None:
    """For `worker_init_fn`: the processes share the cores, with each other and the training."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
