"""An error as the one line that the terminal shows, with the remedy."""

import errno
import re

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_FROM_WORKER = "Caught "  # PyTorch puts the traceback of a loader process into the message
_OS_ERROR = re.compile(r"""\[Errno (\d+)\] ([^:]*)(?:: (?:(['"])(.*)\3))?$""")


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
        told = _OS_ERROR.match(text)
        error = OSError(int(told[1]), told[2], told[4]) if told else error
    if not isinstance(error, OSError):
        return text
    where = error.filename2 or error.filename
    if error.errno in _FULL:
        disk = f"the disk of {where}" if where else "the disk"
        return f"{disk} is full: free some space and run the command again, or give another folder"
    if error.errno in _FORBIDDEN and where:
        readable = "" if error.errno == errno.EROFS else "make it readable, or "
        return (
            f"no permission for {where} ({error.strerror}): {readable}give a folder that you may "
            "write to"
        )
    return text


def printable(text: str) -> str:
    """Escape control characters: names of files and of classes may hold anything.

    Args:
        text: of one line.

    Returns:
        What can neither break nor forge a line.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
