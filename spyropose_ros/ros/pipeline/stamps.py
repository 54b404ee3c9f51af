"""What stamps mean: that time was set back, that an image is too old. Independent of ROS."""

from spyropose_ros.ros.pipeline.drops import Reason

JUMP_NS = 1_000_000_000  # stamps that are less out of order are late, not of another time
SETTLING = 5.0  # seconds after the loading in which images of before it may still come


def went_back(stamp: int, newest: int | None) -> bool:
    """Tell whether time was set back between two stamps, by a bag loop or a simulation restart.

    Args:
        stamp: of the present message, nanoseconds.
        newest: newest stamp before it, nanoseconds; None without one.

    Returns:
        True if the stamp is older by more than a second.
    """
    return newest is not None and stamp < newest - JUMP_NS


def too_old(age: float, max_age: float, begun: float, ready: float) -> tuple[Reason, str] | None:
    """Tell why an image is too old, if it is.

    Args:
        age: since it was taken, seconds; nan before simulated time starts.
        max_age: the parameter sync.max_age, seconds; 0 for no limit.
        begun: since the loading of the models began, seconds.
        ready: since they were loaded, seconds.

    Returns:
        What it is counted as and what to do; None if it is fresh.
    """
    if not (max_age and age > max_age):
        return None
    if (
        ready < SETTLING and ready < age < begun
    ):  # while PyTorch loads, messages wait in their queues
        return Reason.BUSY, "the image was taken while the models were still loading"
    return Reason.STALE, (
        f"image is {age:.3f} s old, more than sync.max_age = {max_age:g} s: "
        "synchronise the clocks, set use_sim_time for a bag, or raise sync.max_age"
    )
