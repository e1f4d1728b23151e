"""Largest memory of a process tree while a block runs."""

import threading

import psutil


class PeakMemory:
    """Samples the memory of a process and of all processes below it. Use it as a context manager, then read `megabytes`.

    Args:
        root: top of the tree; this process by default.
        seconds: between two samples.
        shared_once: count a page that processes share only once (PSS, slower to read), not once in each of them (RSS).
    """

    def __init__(self, root: psutil.Process | None = None, *, seconds: float = 0.25, shared_once: bool = False) -> None:
        self.megabytes = 0
        self._root = root or psutil.Process()
        self._seconds, self._shared_once = seconds, shared_once
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            total = 0
            for process in [self._root, *self._root.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss if self._shared_once else process.memory_info().rss
                except psutil.Error:  # it has ended meanwhile
                    continue
            self.megabytes = max(self.megabytes, total // 2**20)
            if self._done.wait(self._seconds):
                return
