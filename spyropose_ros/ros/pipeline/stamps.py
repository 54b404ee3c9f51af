"""When a stamp means that time was set back. Independent of ROS."""

JUMP_NS = 1_000_000_000  # stamps that are less out of order are late, not of another time


def went_back(stamp: int, newest: int | None) -> bool:
    """Tell whether time was set back between two stamps, by a bag loop or a simulation restart.

    Args:
        stamp: of the present message, nanoseconds.
        newest: newest stamp before it, nanoseconds; None without one.

    Returns:
        True if the stamp is older by more than a second.
    """
    return newest is not None and stamp < newest - JUMP_NS
