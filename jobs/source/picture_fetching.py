"""Fetches the pictures that a catalogue names by URL, within limits, into the cache of the home.

One process fetches for all workers. Only so can the requests to a server be counted, and other servers, not this machine's
cores, set the pace. The workers then read the cache.
"""

import hashlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as TimeIsOver

from jobs.base.locks import alone_in
from jobs.base.settings import PictureSettings, PipelineSettings
from jobs.source.picture_cache import FetchedPicture, PictureCache
from jobs.source.picture_files import EMPTY, NOT_FOUND, TOO_LARGE
from jobs.source.picture_hosts import REFUSED_ADDRESS, REFUSED_HOST, UNREACHABLE, HostList, Refused, Target

log = logging.getLogger(__name__)

TIMED_OUT, SERVER_ERROR, REFUSED_BY_SERVER, TOO_MANY_REDIRECTS = "timed_out", "server_error", "refused_by_server", "redirects"
NEW, UNCHANGED, FRESH, KEPT, LATER = "fetched", "unchanged", "not_asked", "kept_though_failed", "left_for_later"
_TRY_AGAIN_AFTER = 6 * 3600  # seconds; a rerun of a day need not ask again for what is not there
_FINAL = {NOT_FOUND, REFUSED_HOST, REFUSED_ADDRESS}  # what was fetched before is not used any more
_REDIRECTS, _GONE, _RETRIED = {301, 302, 303, 307, 308}, {404, 410}, {429, 500, 502, 503, 504}
_CHUNK = 1 << 16
_LONGEST_WAIT = 30.0  # seconds before another attempt, whatever a server asks for


class _Answer(NamedTuple):
    status: int
    headers: urllib3.HTTPHeaderDict
    content: bytes


class _Again(Exception):
    """The attempt failed in a way that may pass. The arguments: the cause, and how many seconds the server asks to wait."""


class Turns:
    """Deals out the times at which each server may be asked.

    Args:
        per_second: most requests per second to one server.
    """

    def __init__(self, per_second: float) -> None:
        self._pause = 1 / per_second
        self._free: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait(self, host: str, now: float) -> float:
        """Seconds that the caller must wait until its turn, which is then taken."""
        with self._lock:
            turn = max(now, self._free.get(host, now))
            self._free[host] = turn + self._pause
        return turn - now


class PictureFetcher:
    """Fetches pictures within the limits of the settings.

    Args:
        cache: where they are kept.
        limits: the settings.
        hosts: the servers that may be asked; default: those of the settings.
    """

    def __init__(self, cache: PictureCache, limits: PictureSettings, hosts: HostList | None = None) -> None:
        self._cache, self._limits = cache, limits
        self._hosts = hosts or HostList.parse(limits.hosts)
        self._turns = Turns(limits.per_second)

    def fetch(self, url: str) -> str:
        """Bring the cache up to date on one URL. Returns what was done, or the cause why there is no picture."""
        known, now = self._cache.find(url), time.time()
        try:
            self._hosts.named(url)
            if known is not None and self._is_fresh(known, now):
                self._cache.use(url)
                return known.why or FRESH
            answer = self._answer(self._hosts.target(url), known)
        except Refused as refused:
            return self._failed(url, str(refused), known)
        if answer.status == 304 and known is not None:
            self._cache.keep(replace(known, checked=now))
            return UNCHANGED
        if not answer.content:
            return self._failed(url, EMPTY, known)
        digest = hashlib.sha256(answer.content).hexdigest()
        etag, modified = answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", "")
        self._cache.keep(FetchedPicture(url, now, "", digest, len(answer.content), etag, modified), answer.content)
        return NEW

    def _is_fresh(self, known: FetchedPicture, now: float) -> bool:
        """Whether the server need not be asked again yet."""
        if known.why:
            return known.why not in (REFUSED_HOST, REFUSED_ADDRESS) and now - known.checked < _TRY_AGAIN_AFTER
        return now - known.checked < self._limits.valid_days * 86_400

    def _failed(self, url: str, why: str, known: FetchedPicture | None) -> str:
        """Keep the cause. A picture that was fetched before stays in use, unless it is gone or no longer allowed."""
        if known is not None and known.content and why not in _FINAL:
            self._cache.keep(replace(known, checked=time.time()))
            return KEPT
        self._cache.keep(FetchedPicture(url, time.time(), why))
        return why

    def _answer(self, target: Target, known: FetchedPicture | None) -> _Answer:
        """The last answer on the way of redirects. Raises `Refused` with the cause if there is no usable one."""
        for _ in range(self._limits.redirects + 1):
            answer = self._asked(target, known)
            if answer.status not in _REDIRECTS:
                break
            # A redirect is checked as the URL itself was: its server, and the address that this has now.
            target = self._hosts.target(urljoin(target.url.url, answer.headers.get("Location", "")))
        else:
            raise Refused(TOO_MANY_REDIRECTS)
        if answer.status in _GONE:
            raise Refused(NOT_FOUND)
        if answer.status not in (200, 304):
            raise Refused(REFUSED_BY_SERVER if 400 <= answer.status < 500 else SERVER_ERROR)
        return answer

    def _asked(self, target: Target, known: FetchedPicture | None) -> _Answer:
        """One answer, after as many attempts as it takes."""
        for attempt in range(self._limits.retries + 1):
            time.sleep(self._turns.wait(target.host, time.monotonic()))
            try:
                return self._attempt(target, known)
            except _Again as again:
                cause, asked_for = again.args
                pause = min(max(asked_for, 0.5 * 2**attempt), _LONGEST_WAIT)
                if attempt == self._limits.retries:
                    raise Refused(cause) from again
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, target: Target, known: FetchedPicture | None) -> _Answer:
        deadline = time.monotonic() + self._limits.seconds
        headers = {"Host": target.url.netloc or target.host, "Accept": "image/*", "Accept-Encoding": "identity"}
        headers["User-Agent"] = "esans-pipeline"
        headers |= {"If-None-Match": known.etag} if known and known.etag else {}
        headers |= {"If-Modified-Since": known.last_modified} if known and known.last_modified else {}
        try:
            with _pool(target) as pool:
                answer = pool.urlopen(
                    "GET", target.url.request_uri, headers=headers, redirect=False, retries=False, preload_content=False,
                    timeout=urllib3.Timeout(total=self._limits.seconds), assert_same_host=False,
                )  # fmt: skip
                try:
                    if answer.status in _RETRIED:
                        raise _Again(SERVER_ERROR, _seconds(answer.headers.get("Retry-After", "")))
                    return _Answer(answer.status, answer.headers, self._read(answer, deadline) if answer.status == 200 else b"")
                finally:
                    answer.close()
        except (HTTPError, OSError) as error:
            if isinstance(error, TimeIsOver) and not isinstance(error, NewConnectionError):
                raise Refused(TIMED_OUT) from error
            log.debug("%s: %s", target.url.url, error)
            raise _Again(UNREACHABLE, 0.0) from error

    def _read(self, answer: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
        """The body, as long as it is within the limits, whatever its header says of its length."""
        most, parts, size = int(self._limits.max_mb * 1_000_000), [], 0
        while part := answer.read1(_CHUNK, decode_content=False):
            size += len(part)
            if size > most:
                raise Refused(TOO_LARGE)
            if time.monotonic() > deadline:
                raise Refused(TIMED_OUT)
            parts.append(part)
        return b"".join(parts)


def fetch_pictures(urls: Iterable[str], settings: PipelineSettings) -> dict[str, int]:
    """Bring the cache of a home up to date on some URLs.

    Args:
        urls: each URL once. They are taken one by one, so there may be any number.
        settings: the home, and the limits.

    Returns:
        How often what was done: fetched, unchanged (its server said so), not_asked (it is fresh enough), kept_though_failed,
        left_for_later (the time was over), or a cause why there is no picture.
    """
    cache = PictureCache.of(settings)
    if cache is None:
        return {}
    fetcher, done = PictureFetcher(cache, settings.pictures), Counter[str]()

    def work(url: str) -> str:
        return fetcher.fetch(url) if time.monotonic() < end else LATER

    # Two at a time would ask the servers twice for the same picture, and twice as often as the limits say.
    with alone_in(cache.folder), ThreadPoolExecutor(settings.pictures.parallel) as threads:
        end = time.monotonic() + settings.pictures.minutes * 60
        for future in _bounded(threads, work, urls, 4 * settings.pictures.parallel):
            done[future.result()] += 1
    return dict(sorted(done.items()))


def _bounded(threads: ThreadPoolExecutor, work: Callable[[str], str], urls: Iterable[str], most: int) -> Iterator[Future[str]]:
    waiting: set[Future[str]] = set()
    for url in urls:
        waiting.add(threads.submit(work, url))
        if len(waiting) >= most:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from done
    yield from wait(waiting).done


def _pool(target: Target) -> urllib3.HTTPConnectionPool:
    """A connection to the address that was checked. A certificate must be that of the server's name."""
    if target.url.scheme == "http":
        return urllib3.HTTPConnectionPool(target.address, target.port)
    return urllib3.HTTPSConnectionPool(target.address, target.port, server_hostname=target.host, assert_hostname=target.host)


def _seconds(retry_after: str) -> float:
    try:
        return float(retry_after)
    except ValueError:  # a date, or nothing: the usual pause will do
        return 0.0
