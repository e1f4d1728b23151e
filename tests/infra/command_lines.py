"""What processes were started as, when any of them may end while one looks."""

import psutil


def command_line(process: psutil.Process) -> str:
    """The arguments of a process, joined by blanks; "" for one that is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
