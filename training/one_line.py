"""An error as the one line that the terminal shows, with the remedy."""

import errno
import re

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_FROM_WORKER = "Caught "  # PyTorch puts the traceback of a loader process into the message
_OS_ERROR = re.compile(r"\[Errno (\d+)\] ([^:]*)(?:: '(.*)')?$")


def one_line(error: Exception) -> str:
    """Describe an error.

    Args:
        error: of this process, or of a loader process as PyTorch passes it on.

    Returns:
        What is wrong and what to do, one line.
    """
    text = str(error).strip()
    if text.startswith(_FROM_WORKER):
        text = text.splitlines()[-1].partition(": ")[2]
    system = _OS_ERROR.match(text)
    if system is None:
        return text
    number, reason, path = int(system[1]), system[2], system[3]
    where = path.rpartition("' -> '")[2] if path else None
    if number in _FULL:
        disk = f"the disk of {where}" if where else "the disk"
        return (
            f"{disk} is full: free some space, then run the command again, which continues from "
            "what is complete; or give another folder"
        )
    if number in _FORBIDDEN and where:
        return f"no permission for {where} ({reason}): give a folder that you may write to"
    return text
