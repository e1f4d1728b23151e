"""Servers under load: our HTTP server beside `mlflow models serve`, over the same bundle, with the same callers.

python -m benchmarks.serving_load              # 100,000 and a million items: benchmarks/results/serving_load.json
python -m benchmarks.serving_load --quick      # a few thousand items and seconds, into var/bench/

Eight callers in one process ask for the 100 best items of one history each, as fast as they are answered. The callers take a
share of the same cores. At the end, the bundle in force changes twenty times under this load.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import mlflow
import numpy as np

from benchmarks.measure import beside, judged
from benchmarks.record import REPOSITORY, RESULTS, Row, write_result
from benchmarks.speed import serving as world
from esans_core.serving.bundle import checked
from esans_core.serving.bundle_writer import write_bundle
from infra.local.processes import await_answer, free_port
from jobs.base.settings import CandidateSettings
from jobs.serving.index import tuned_index
from jobs.serving.store import ServingStore

OURS, MLFLOW = "make serve", "mlflow models serve"
_FOLDER = REPOSITORY / "var" / "bench" / "serving_load"
_TOKEN = "the-password-of-the-benchmark"


@dataclass(frozen=True)
class Size:
    """Items of the catalogue, callers, seconds of load, and changes of the bundle under it."""

    items: int
    callers: int = 8
    seconds: float = 30.0
    changes: int = 20


@dataclass(frozen=True)
class Answered:
    """What the callers saw.

    Attributes:
        seconds: how long each answer took.
        lost: requests without an answer.
        taken: seconds of the load.
    """

    seconds: list[float]
    lost: int
    taken: float


def main() -> None:
    """Measure, write and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="five thousand items, for seconds")
    quick = parser.parse_args().quick
    sizes = [Size(5_000, seconds=3, changes=3)] if quick else [Size(100_000), Size(1_000_000)]
    load, rows = os.getloadavg()[0], []
    for size in sizes:
        for row in measure(size, _FOLDER):
            rows.append(row)
            print(f"{row.case}: {row.subject}, {row.metric}: {row.value:.4g} {row.unit}", flush=True)
    versions = {name: version(name) for name in ("mlflow", "fastapi", "uvicorn", "torch", "faiss-cpu", "aiohttp")}
    command = "python -m benchmarks.serving_load" + (" --quick" if quick else "")
    folder = _FOLDER.parent if quick else RESULTS
    print(
        f"written: {write_result('serving_load', command, rows, folder=folder, versions=versions, load_before=round(load, 2))}"
    )


def measure(size: Size, folder: Path) -> Iterator[Row]:
    """Requests per second and times of both servers, ours beside MLflow's, and what was lost while bundles changed."""
    shutil.rmtree(folder, ignore_errors=True)
    store, names, histories = make_store(size, folder)
    case = f"serving over HTTP: {size.items:,} items"
    found: dict[str, Answered] = {}
    with mlflow_server(store.path(names[0]), folder) as base:
        asked: list[dict[str, Any]] = [{"inputs": [history], "params": {"k": 100}} for history in histories]
        found[MLFLOW] = asyncio.run(load(f"{base}/invocations", asked, size))
    with our_server(store) as base:
        asked = [{"histories": [history], "k": 100} for history in histories]
        found[OURS] = asyncio.run(load(f"{base}/recommend", asked, size))
        changing = asyncio.run(load(f"{base}/recommend", asked, size, store=store, names=names))
    for metric, unit, of in (
        ("requests per second", "/s", lambda one: len(one.seconds) / one.taken),
        ("a request, median", "ms", lambda one: 1e3 * float(np.percentile(one.seconds, 50))),
        ("a request, 99th percentile", "ms", lambda one: 1e3 * float(np.percentile(one.seconds, 99))),
    ):
        peer, ours = (
            Row(case, subject, metric, unit, of(found[subject]), len(found[subject].seconds)) for subject in (MLFLOW, OURS)
        )
        yield peer
        yield beside(ours, peer)
    lost = Row(
        case, OURS, f"requests lost while the bundle changed {size.changes} times", "", changing.lost, len(changing.seconds)
    )
    yield judged(lost, "value <= 0")
    shutil.rmtree(folder)


def make_store(size: Size, folder: Path) -> tuple[ServingStore, list[str], list[list[str]]]:
    """A store with two bundles of one catalogue, of which the first is in force; their names, and histories of users."""
    model, users = world.towers_and_users(replace(world.FULL, num_items=size.items))
    item_ids = [f"item-{row}" for row in range(size.items)]
    ends = users.offsets.tolist()
    histories = [[item_ids[row] for row in users.items[start:end].tolist()] for start, end in zip(ends, ends[1:], strict=False)]
    index, _ = tuned_index(CandidateSettings(), model, users, 200)
    store, names = ServingStore(folder / "serving"), []
    for number in (1, 2):
        made = folder / f"bundle-{number}"
        made.mkdir(parents=True)
        about = {"model": "esans-retrieval", "date": "2026-01-28", "number": number}
        events = np.arange(size.items)[::-1]
        content = write_bundle(made, model, item_ids, index, events=events, k=100, max_k=1000, about=about)
        (made / "bundle.json").write_text(json.dumps(content))
        names.append(f"2026-01-28-v{number}-{checked(made)['digest'][:8]}")
        store.add(made, names[-1])
    store.activate(names[0], by="benchmark", reason="the first", version="1")
    return store, names, histories


async def load(
    url: str, asked: list[dict[str, Any]], size: Size, *, store: ServingStore | None = None, names: list[str] | None = None
) -> Answered:
    """Ask as fast as answers come; with a store, its bundle in force changes meanwhile, in even steps."""
    seconds: list[float] = []
    lost, bodies = 0, [json.dumps(one).encode() for one in asked]
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {_TOKEN}"}
    end = time.perf_counter() + size.seconds

    async def caller(session: aiohttp.ClientSession, first: int) -> None:
        nonlocal lost
        number = first
        while (started := time.perf_counter()) < end:
            try:
                async with session.post(url, data=bodies[number % len(bodies)], headers=headers) as answer:
                    content = await answer.read()
                    if answer.status != 200 or b"item_id" not in content:
                        lost += 1
            except aiohttp.ClientError:
                lost += 1
            seconds.append(time.perf_counter() - started)
            number += size.callers

    async def changes(store: ServingStore, names: list[str]) -> None:
        for turn in range(1, size.changes + 1):
            await asyncio.sleep(size.seconds / (size.changes + 1))
            name = names[turn % 2]
            await asyncio.to_thread(store.activate, name, by="benchmark", reason="turn", version=str(turn % 2 + 1))

    connector = aiohttp.TCPConnector(limit=size.callers)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as session:
        for body in bodies[:20]:  # both servers are warm before they are measured
            async with session.post(url, data=body, headers=headers) as answer:
                await answer.read()
        end, started = time.perf_counter() + size.seconds, time.perf_counter()
        beside_them = [changes(store, names)] if store is not None and names is not None else []
        await asyncio.gather(*(caller(session, first) for first in range(size.callers)), *beside_them)
        return Answered(seconds, lost, time.perf_counter() - started)


@contextmanager
def mlflow_server(bundle: Path, folder: Path) -> Iterator[str]:
    """`mlflow models serve` of the registered model's code over a bundle."""
    model = folder / "model"
    mlflow.pyfunc.save_model(
        str(model),
        python_model=str(REPOSITORY / "jobs" / "serving" / "pyfunc_model.py"),
        artifacts={"bundle": str(bundle)},
        code_paths=[str(REPOSITORY / "esans_core")],
        input_example=([["item-1"], []], {"k": 100}),
        pip_requirements=[],
    )
    port = free_port()
    command = [
        "mlflow",
        "models",
        "serve",
        "-m",
        str(model),
        "--env-manager",
        "local",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with running([sys.executable, "-m", *command], folder / "mlflow.log", f"http://127.0.0.1:{port}", "/health") as base:
        yield base


@contextmanager
def our_server(store: ServingStore) -> Iterator[str]:
    """Our server over the published bundles."""
    port = free_port()
    command = ["esans_core.serving", "--folder", str(store.root), "--port", str(port), "--seconds", "0.5"]
    os.environ["ESANS_SERVE_TOKEN"] = _TOKEN
    log = store.root.parent / "serve.log"
    with running([sys.executable, "-m", *command], log, f"http://127.0.0.1:{port}", "/ready") as base:
        yield base


@contextmanager
def running(command: list[str], log: Path, base: str, path: str) -> Iterator[str]:
    """A server from its first answer on."""
    with log.open("w") as out:
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow starts uvicorn by its name
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=os.environ | {"PATH": programs}, stdout=out, stderr=out, start_new_session=True
        )
    try:
        await_answer(process, f"{base}{path}", log=log)
        yield base
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait(60)


if __name__ == "__main__":
    main()
