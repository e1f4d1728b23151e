"""The HTTP server as a process of its own: answers, refusals, limits, metrics, and bundles that change under load."""

import concurrent.futures
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from bundles import build

from esans_core.serving.bundle import ServingBundle, checked
from infra.local.processes import StackError, await_answer, free_port
from jobs.base.settings import PipelineSettings
from jobs.serving import bundle as module
from jobs.serving.store import ServingStore

pytest.importorskip("faiss")
pytestmark = pytest.mark.slow

TOKEN = "a-password-of-this-test"
HISTORIES = [["i0003", "unknown", "i0004"], [], ["i0007"]]


@dataclass
class Server:
    """A running server, and the store whose bundles it serves."""

    base: str
    store: ServingStore
    names: list[str]
    process: subprocess.Popen[str]

    def post(self, path: str, asked: dict, token: str = TOKEN) -> requests.Response:
        return requests.post(f"{self.base}{path}", json=asked, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def get(self, path: str, token: str = TOKEN) -> requests.Response:
        return requests.get(f"{self.base}{path}", headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def until(self, ready, what: str) -> None:
        deadline = time.monotonic() + 180
        while not ready():
            assert self.process.poll() is None and time.monotonic() < deadline, what
            time.sleep(0.1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[ServingStore, list[str]]:
    """A store with two bundles, of which none is in force."""
    home = tmp_path_factory.mktemp("home")
    settings, names = PipelineSettings(home=home), []
    store = ServingStore.of(settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TIMED_QUERIES", 5)
        for version in (1, 2):
            folder = build(settings, home / f"bundle-{version}", seed=version)
            names.append(f"{settings.ds}-v{version}-{checked(folder)['digest'][:8]}")
            store.add(folder, names[-1])
    return store, names


def start(store: ServingStore, names: list[str], *further: str) -> Server:
    port = free_port()
    command = [sys.executable, "-m", "esans_core.serving", "--folder", str(store.root), "--port", str(port), "--seconds", "0.2"]
    process = subprocess.Popen([*command, *further], env=os.environ | {"ESANS_SERVE_TOKEN": TOKEN}, text=True)
    server = Server(f"http://127.0.0.1:{port}", store, names, process)
    try:
        await_answer(process, f"{server.base}/health")
    except StackError:
        process.kill()
        raise
    return server


@pytest.fixture(scope="module")
def server(store: tuple[ServingStore, list[str]]) -> Iterator[Server]:
    """A server that was started before any bundle was in force; now the first one is."""
    made = start(*store, "--max-bytes", "20000")
    try:
        ready = requests.get(f"{made.base}/ready", timeout=5)
        assert ready.status_code == 503 and "promote a version first" in ready.json()["detail"]
        assert made.post("/recommend", {"histories": [[]]}).status_code == 503
        made.store.activate(made.names[0], by="ann", reason="the first", version="1")
        made.until(lambda: requests.get(f"{made.base}/ready", timeout=5).ok, "the first bundle")
        yield made
    finally:
        made.process.terminate()
        assert made.process.wait(30) in (0, -15)


def test_it_answers_as_the_bundle_does(server: Server) -> None:
    bundle, name = ServingBundle(server.store.path(server.names[0])), server.names[0]
    answers = server.post("/recommend", {"histories": HISTORIES, "k": 5, "why": 1, "exclude": ["i0009"]}).json()["answers"]
    for said, found in zip(answers, bundle.recommend(HISTORIES, 5, why=1, exclude=["i0009"]), strict=True):
        assert said == {
            "item_id": found.item_ids,
            "score": pytest.approx(found.scores, abs=1e-6),
            "fallback": found.fallback,
            "unknown_item_id": found.unknown_ids,
            "because": found.because,
            "bundle": name,
        }
    unwanted = [answer["item_id"][:2] for answer in answers]
    others = server.post("/recommend", {"histories": HISTORIES, "k": 5, "unwanted": unwanted}).json()["answers"]
    expected = bundle.recommend(HISTORIES, 5, unwanted=unwanted)
    assert [said["item_id"] for said in others] == [found.item_ids for found in expected]
    weighed = server.post("/recommend", {"histories": HISTORIES, "k": 5, "popularity": 0.5}).json()["answers"]
    lighter = bundle.recommend(HISTORIES, 5, popularity=0.5)
    assert [said["item_id"] for said in weighed] == [found.item_ids for found in lighter]
    similar = server.post("/similar", {"items": ["i0003", "nobody"], "k": 4}).json()["answers"]
    assert [said["item_id"] for said in similar] == [found.item_ids for found in bundle.similar(["i0003", "nobody"], 4)]
    about = server.get("/bundle").json()
    assert about["bundle"] == name and about["canary"] is None and about["about"]["model"] == bundle.about["model"]


@pytest.mark.parametrize(
    ("path", "asked", "status", "word"),
    [
        ("/recommend", {"histories": []}, 422, "histories"),
        ("/recommend", {"histories": [["i0003"]], "k": 0}, 422, "greater than or equal to 1"),
        ("/recommend", {"histories": [["i0003"]], "k": 100_000}, 400, "from 1 to 1000"),
        ("/recommend", {"histories": [[3]]}, 422, "valid string"),
        ("/recommend", {"histories": ["i0003"]}, 422, "valid list"),
        ("/recommend", {"histories": [["i0003"]], "users": []}, 422, "one for each of the 1 histories"),
        ("/recommend", {"histories": [["i0003"]], "unwanted": []}, 422, "one for each of the 1 histories"),
        ("/recommend", {"histories": [["i0003"]], "popularity": 11}, 422, "less than or equal to 10"),
        ("/recommend", {"histories": [["i0003"]], "users": [{"age": 3}]}, 400, "no attribute"),
        ("/recommend", {"histories": [["i0003", "x"]], "strict": True}, 400, "history 0"),
        ("/recommend", {"histories": [["i0003"]], "filter": {"colour": ["red"]}}, 400, "no attribute"),
        ("/recommend", {"histories": [["i0003"]], "history": []}, 422, "extra_forbidden"),
        ("/recommend", {"histories": [["i0003"]] * 1001}, 422, "1000"),
        ("/similar", {"items": "i0003"}, 422, "valid list"),
        ("/nothing", {}, 404, "Not Found"),
    ],
)
def test_what_is_refused_says_why(server: Server, path: str, asked: dict, status: int, word: str) -> None:
    refused = server.post(path, asked)
    assert refused.status_code == status and word in refused.text


def test_nobody_gets_in_without_the_password(server: Server) -> None:
    for path in ("/bundle", "/metrics", "/docs", "/openapi.json", "/redoc", "/static-offline-docs/swagger-ui.css"):
        assert requests.get(f"{server.base}{path}", timeout=5).status_code == 401
        assert server.get(path, "a-password-of-this-tes").status_code == 401
        assert requests.get(f"{server.base}{path}", auth=("anybody", TOKEN), timeout=5).ok
    assert requests.post(f"{server.base}/recommend", json={"histories": [[]]}, timeout=5).status_code == 401
    page = server.get("/docs").text
    assert "https://" not in page.replace('href="https://fastapi', ""), "the page needs no network"


def test_a_large_body_is_refused_before_it_is_read(server: Server) -> None:
    assert server.post("/recommend", {"histories": [["i" * 1000] * 30]}).status_code == 413

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    try:
        refused = requests.post(f"{server.base}/recommend", data=endless(), headers=headers, timeout=30)
        assert refused.status_code == 413
    except requests.ConnectionError:
        pass  # it was refused while the rest was still being sent
    assert server.post("/recommend", {"histories": [[]]}).ok


def test_metrics_count_requests_answers_and_refusals(server: Server) -> None:
    server.post("/recommend", {"histories": HISTORIES})
    server.post("/elsewhere/i0003", {})
    text = server.get("/metrics").text
    assert 'esans_request_seconds_count{path="/recommend",status="200"}' in text
    assert 'path="other",status="404"' in text and "elsewhere" not in text
    assert f'esans_answers_total{{bundle="{server.names[0]}",fallback="true"}}' in text


def test_a_canary_gets_its_share_and_the_same_user_the_same_bundle(server: Server) -> None:
    old, new = server.names
    server.store.start_canary(new, 0.3, by="ann", reason="to try it", version="2")
    try:
        server.until(lambda: server.get("/bundle").json()["canary"] == new, "the canary")
        asked = {"histories": [["i0003"]] * 500, "keys": [f"user-{number}" for number in range(500)], "k": 3}
        bundles = [answer["bundle"] for answer in server.post("/recommend", asked).json()["answers"]]
        assert bundles == [answer["bundle"] for answer in server.post("/recommend", asked).json()["answers"]]
        assert set(bundles) == {old, new} and 0.2 < bundles.count(new) / 500 < 0.4
        found = server.post("/recommend", asked).json()["answers"][bundles.index(new)]["item_id"]
        assert found == ServingBundle(server.store.path(new)).recommend([["i0003"]], 3)[0].item_ids
    finally:
        server.store.end_canary()
    server.until(lambda: server.get("/bundle").json()["canary"] is None, "the end of the canary")


def test_no_request_is_lost_while_bundles_change(server: Server) -> None:
    asked, stop = {"histories": [["i0003", "i0004"]], "k": 5}, threading.Event()
    expected = {
        name: ServingBundle(server.store.path(name)).recommend(asked["histories"], 5)[0].item_ids for name in server.names
    }
    seen: list[tuple[str, list[str]]] = []

    def ask() -> None:
        while not stop.is_set():
            answer = server.post("/recommend", asked)
            (row,) = answer.json()["answers"] if answer.ok else [{"bundle": answer.text, "item_id": []}]
            seen.append((row["bundle"], row["item_id"]))

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(ask) for _ in range(3)]
        try:
            for turn in range(4):
                name = server.names[(turn + 1) % 2]
                server.store.activate(name, by="ann", reason="turn", version=name.split("-v")[1][0])
                server.until(lambda name=name: seen[-1:] != [] and seen[-1][0] == name, "the change")
        finally:
            stop.set()
        for caller in callers:
            caller.result()
    assert {name for name, _ in seen} == set(server.names) and all(found == expected[name] for name, found in seen)


def test_too_many_requests_are_told_when_to_come_again(store: tuple[ServingStore, list[str]], tmp_path: Path) -> None:
    """Two processes, which count for themselves; their metrics are added up."""
    made = start(*store, "--rate", "3/hour", "--workers", "2")
    try:
        made.store.activate(made.names[0], by="ann", reason="the first", version="1")
        answers = [made.get("/bundle") for _ in range(20)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(refused) >= 20 - 2 * 3 and all(0 < int(answer.headers["retry-after"]) <= 3600 for answer in refused)
        assert requests.get(f"{made.base}/ready", timeout=5).status_code != 429, "load balancers are never refused"
    finally:
        made.process.terminate()
        made.process.wait(30)


def test_the_password_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    file = tmp_path / "token"
    code = (
        "import argparse, pathlib, sys\n"
        "from esans_core.serving.__main__ import _token\n"
        "print(_token(argparse.ArgumentParser(), pathlib.Path(sys.argv[1])))"
    )
    said = [
        subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True) for _ in range(2)
    ]
    assert said[0].stdout == said[1].stdout == file.read_text() and len(file.read_text()) > 40
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    nowhere = subprocess.run([sys.executable, "-c", code, "/no/such/folder/token"], capture_output=True, text=True)
    assert nowhere.returncode == 2 and "Name a file in a folder that exists" in nowhere.stderr
