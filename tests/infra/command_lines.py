"""Command lines of processes, any of which may end while a test reads it."""

import psutil


def command_line(process: psutil.Process) -> str:
    """The arguments of a process, joined by blanks; "" for one that is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
