"""Pictures by URL: which servers are asked, within which limits, and what is kept. The server is a real one on this machine."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.base.errors import DataError
from jobs.base.places import place
from jobs.base.settings import PictureSettings, PipelineSettings
from jobs.source.picture_cache import FetchedPicture, PictureCache
from jobs.source.picture_fetching import PictureFetcher, Turns, fetch_pictures
from jobs.source.picture_files import find_picture, read_file
from jobs.source.picture_hosts import HostList, Refused
from tests.jobs.source.picture_server import PictureServer, picture_server


@pytest.fixture
def server() -> Iterator[PictureServer]:
    with picture_server() as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> PictureCache:
    return PictureCache(tmp_path / "pictures")


def fetcher(cache: PictureCache, server: PictureServer, **limits: Any) -> PictureFetcher:
    return PictureFetcher(cache, PictureSettings(**{"hosts": server.host, "per_second": 10_000.0, "retries": 0} | limits))


def content(cache: PictureCache, url: str) -> bytes | None:
    return read_file(place(cache.folder), url, cache)


def test_a_picture_is_fetched_once_and_read_as_a_file_is(server: PictureServer, cache: PictureCache) -> None:
    server.pages["/a%20b.png?size=1"] = b"picture"
    url = server.url("/a b.png?size=1")
    assert find_picture(place(cache.folder), url, cache).why == "not_fetched"
    assert fetcher(cache, server).fetch(url) == "fetched"
    found = find_picture(place(cache.folder), f" {url}\n", cache)
    assert (found.size, found.why) == (7, "") and content(cache, url) == b"picture"
    assert fetcher(cache, server).fetch(url) == "not_asked" and len(server.asked) == 1
    assert server.asked[0][1]["Host"] == server.host


def test_an_old_picture_is_asked_for_with_what_the_server_said_of_it(server: PictureServer, cache: PictureCache) -> None:
    url = server.url("/a")
    server.pages["/a"] = [(200, {"ETag": '"1"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"one")]
    ask = fetcher(cache, server, valid_days=0)
    assert ask.fetch(url) == "fetched"
    before = find_picture(place(cache.folder), url, cache).stamp
    assert ask.fetch(url) == "unchanged" and content(cache, url) == b"one"
    assert server.asked[-1][1]["If-Modified-Since"] == "Wed, 21 Oct 2015 07:28:00 GMT"
    server.pages["/a"] = [(200, {"ETag": '"2"'}, b"two")]
    assert ask.fetch(url) == "fetched" and content(cache, url) == b"two"
    assert find_picture(place(cache.folder), url, cache).stamp != before
    assert len(list(cache.folder.glob("*/*.picture"))) == 1


def test_a_failure_keeps_the_picture_unless_it_is_gone_or_forbidden(server: PictureServer, cache: PictureCache) -> None:
    url = server.url("/a")
    for answer, said, left in [
        (500, "kept_though_failed", b"one"),
        (403, "kept_though_failed", b"one"),
        (404, "not_found", None),
    ]:
        server.pages["/a"] = b"one"
        assert fetcher(cache, server, valid_days=0).fetch(url) in ("fetched", "not_asked")
        server.pages["/a"] = [(answer, {}, b"an error page")]
        assert fetcher(cache, server, valid_days=0).fetch(url) == said
        assert content(cache, url) == left
    server.pages["/b"] = b"one"
    fetcher(cache, server).fetch(server.url("/b"))
    assert fetcher(cache, server, hosts="img.example.com").fetch(server.url("/b")) == "refused_host"
    assert content(cache, server.url("/b")) is None


@pytest.mark.parametrize(
    ("answer", "limits", "why"),
    [
        ((200, {}, b"x" * 2_001), {"max_mb": 0.002}, "too_large"),
        ((200, {}, b""), {}, "empty"),
        ((410, {}, b"gone"), {}, "not_found"),
        ((401, {}, b"who are you"), {}, "refused_by_server"),
        ((501, {}, b"later"), {}, "server_error"),
        ((200, {"X-Wait": "2"}, b"late"), {"seconds": 0.2}, "timed_out"),
    ],
)
def test_causes(server: PictureServer, cache: PictureCache, answer: tuple, limits: dict[str, Any], why: str) -> None:
    server.pages["/a"] = [answer]
    url = server.url("/a")
    assert fetcher(cache, server, **limits).fetch(url) == why
    assert find_picture(place(cache.folder), url, cache).why == why
    assert fetcher(cache, server, **limits).fetch(url) == why and len(server.asked) == 1  # not asked again at once
    assert not list(cache.folder.glob("*/*.picture"))


def test_a_slow_drip_is_cut_off(cache: PictureCache) -> None:
    """A server that sends a byte now and then never lets a read time out."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port, over = listening.getsockname()[1], threading.Event()

        def drip() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not over.wait(0.05):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        limits = PictureSettings(hosts=f"127.0.0.1:{port}", seconds=0.5, retries=0)
        assert PictureFetcher(cache, limits).fetch(f"http://127.0.0.1:{port}/a") == "timed_out"
        over.set()
        thread.join()


def test_busy_servers_are_asked_again_and_broken_connections_too(server: PictureServer, cache: PictureCache) -> None:
    server.pages["/a"] = [(429, {"Retry-After": "0"}, b""), (503, {}, b""), (200, {}, b"at last")]
    assert fetcher(cache, server, retries=2).fetch(server.url("/a")) == "fetched"
    assert server.paths() == ["/a"] * 3
    server.pages["/b"] = [(429, {}, b"")]
    assert fetcher(cache, server, retries=1).fetch(server.url("/b")) == "server_error"
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    limits = PictureSettings(hosts=f"127.0.0.1:{port}", retries=1)
    assert PictureFetcher(cache, limits).fetch(f"http://127.0.0.1:{port}/a") == "unreachable"


def test_redirects_stay_within_the_list(server: PictureServer, cache: PictureCache) -> None:
    server.pages |= {
        "/a": [(302, {"Location": "/b"}, b"")],
        "/b": b"found",
        "/loop": [(301, {"Location": "/loop"}, b"")],
        "/out": [(307, {"Location": "http://img.example.com/x"}, b"")],
        "/in": [(302, {"Location": f"http://localhost:{server.server_port}/b"}, b"")],
        "/file": [(302, {"Location": "file:///etc/passwd"}, b"")],
    }
    ask = fetcher(cache, server, redirects=2)
    assert ask.fetch(server.url("/a")) == "fetched" and content(cache, server.url("/a")) == b"found"
    assert ask.fetch(server.url("/loop")) == "redirects" and server.paths().count("/loop") == 3
    for path in ("/out", "/in", "/file"):
        assert ask.fetch(server.url(path)) == "refused_host"


def test_a_name_of_the_list_that_leads_inside_is_refused(server: PictureServer, cache: PictureCache) -> None:
    server.pages["/a"] = b"secret"
    url = f"http://localhost:{server.server_port}/a"
    named = f"localhost:{server.server_port}"
    assert fetcher(cache, server, hosts=named).fetch(url) == "refused_address" and not server.asked
    both = f"{named}, {server.host}, [::1]:{server.server_port}"
    assert fetcher(cache, server, hosts=both, retries=0).fetch(url) in ("fetched", "unreachable")  # whatever localhost is first


def resolving(*addresses: str) -> HostList:
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in addresses]
    return HostList(HostList.parse("img.example.com").entries, lambda *args, **options: answer)


INSIDE = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200", "168.63.129.16", "0.0.0.0",
    "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00:ec2::254", "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::", "ff02::1",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_no_address_inside_is_asked(address: str) -> None:
    with pytest.raises(Refused, match="refused_address"):
        resolving(address).target("http://img.example.com/a.png")
    with pytest.raises(Refused, match="refused_address"):  # one bad address among good ones
        resolving("93.184.216.34", address).target("http://img.example.com/a.png")


def test_the_address_that_was_checked_is_the_one_that_is_asked() -> None:
    target = resolving("93.184.216.34").target("https://IMG.example.com./a b.png")
    assert (target.address, target.host, target.port) == ("93.184.216.34", "img.example.com", 443)
    assert resolving("2606:2800:220:1::1").target("http://img.example.com/").address == "2606:2800:220:1::1"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a", "http://img.example.com.evil.org/a", "http://img.example.com@evil.org/a", "ftp://img.example.com/a",
        "http://user:pass@img.example.com/a", "http://evil.org#img.example.com", "http://evil.org\\@img.example.com/a",
        "http://img.example.com:8080/a", "http:///a", "http://[::1/a", "http://2130706433/a",
    ],
)  # fmt: skip
def test_what_the_list_does_not_name_is_refused(url: str) -> None:
    with pytest.raises(Refused, match="refused_host"):
        resolving("93.184.216.34").target(url)


def test_a_star_stands_for_subdomains_and_a_bad_entry_is_named() -> None:
    hosts = HostList.parse("*.example.com, other.org:8443")
    for url in ("https://a.example.com/", "https://a.b.example.com/", "https://other.org:8443/"):
        hosts.named(url)
    for url in ("https://example.com/", "https://other.org/", "https://notexample.com/"):
        with pytest.raises(Refused):
            hosts.named(url)
    for text in ("*", "a/b", "http://a", "user@a", "a.*.b"):
        with pytest.raises(DataError, match="is no server"):
            HostList.parse(text)


def test_all_pictures_of_a_catalogue_within_the_limits(server: PictureServer, settings: PipelineSettings) -> None:
    assert fetch_pictures([server.url("/0")], settings) == {} and not server.asked  # off unless somebody turns it on
    limits = {"hosts": server.host, "parallel": 3, "per_second": 10_000.0, "retries": 0}
    chosen = settings.model_copy(update={"pictures": PictureSettings(**limits)})
    server.pages |= {f"/{number}": [(200, {"X-Wait": "0.02"}, b"%d" % number)] for number in range(40)}
    urls = [server.url(f"/{number}") for number in range(42)] + ["http://elsewhere.example.com/a"]
    assert fetch_pictures(urls, chosen) == {"fetched": 40, "not_found": 2, "refused_host": 1}
    assert server.at_once == 3
    assert fetch_pictures(urls, chosen) == {"not_asked": 40, "not_found": 2, "refused_host": 1} and len(server.asked) == 42
    short = settings.model_copy(update={"pictures": PictureSettings(**limits, minutes=1e-9)})
    assert fetch_pictures(urls, short) == {"left_for_later": 43}


def test_each_server_has_its_turns() -> None:
    turns = Turns(4.0)
    assert [turns.wait("a", now) for now in (10.0, 10.0, 10.1)] == [0.0, 0.25, pytest.approx(0.4)]
    assert turns.wait("b", 10.1) == 0.0 and turns.wait("a", 20.0) == 0.0


def test_what_no_catalogue_names_any_more_is_removed(server: PictureServer, cache: PictureCache) -> None:
    server.pages |= {"/a": b"one", "/b": b"two"}
    for path in ("/a", "/b"):
        fetcher(cache, server).fetch(server.url(path))
    (cache.folder / "00").mkdir(exist_ok=True)
    (cache.folder / "00" / ".draft").write_bytes(b"half of one")
    for path in cache.folder.glob("*/*"):
        os.utime(path, (time.time() - 40 * 86_400,) * 2)
    fetcher(cache, server, valid_days=100).fetch(server.url("/a"))
    cache.sweep(30)
    cache.sweep(30)  # a picture goes once its record has gone
    assert content(cache, server.url("/a")) == b"one" and content(cache, server.url("/b")) is None
    assert len([path for path in cache.folder.glob("*/*") if path.is_file()]) == 2


def test_damage_in_the_cache_is_fetched_anew(server: PictureServer, cache: PictureCache) -> None:
    server.pages["/a"] = b"one"
    url = server.url("/a")
    for harm in ("json", "picture"):
        fetcher(cache, server).fetch(url)
        (file,) = cache.folder.glob(f"*/*.{harm}")
        file.unlink() if harm == "picture" else file.write_text("{")
        assert cache.find(url) is None and fetcher(cache, server).fetch(url) == "fetched"
    assert isinstance(cache.find(url), FetchedPicture) and content(cache, url) == b"one"
