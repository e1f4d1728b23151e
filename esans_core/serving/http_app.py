"""Answers queries over HTTP from the bundle in force: recommendations, similar items, health, metrics and a page of its API.

It needs fastapi, uvicorn, limits and prometheus_client (`pip install ".[http]"`). `python -m esans_core.serving` starts it.
"""

import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
import limits
import torch
from fastapi import FastAPI, HTTPException, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from esans_core.serving.bundle import Recommendation
from esans_core.serving.http_limits import Guard
from esans_core.serving.http_schema import Answer, Answers, RecommendRequest, SimilarRequest, State
from esans_core.serving.published import PublishedBundle, Served
from esans_core.serving.together import Together

log = logging.getLogger(__name__)

_WAITING = 256  # requests that a process has in hand; others wait in the network
_ABOUT = "Recommendations from the model in force. Every answer names the bundle that gave it."


@dataclass(frozen=True)
class Options:
    """How the server runs.

    Attributes:
        folder: folder of the published bundles, `<home>/serving`.
        token: the password that requests bring.
        threads: passes that are computed at a time. Requests that wait are answered together (`esans_core.serving.together`).
        max_bytes: longest body of a request.
        rate: requests that one client address may send, such as `100/second`; "" for any number.
        seconds: time between two looks at which bundle is in force.
    """

    folder: Path
    token: str
    threads: int = 2
    max_bytes: int = 2_000_000
    rate: str = ""
    seconds: float = 5.0


class Awaited:
    """The published bundles of a folder. Until the first one is in force, it looks again every few seconds.

    Args:
        folder: folder of the published bundles.
        seconds: time between two looks.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder, self._seconds, self._found = folder, seconds, self._try(folder, seconds)
        if self._found is None:
            threading.Thread(target=self._wait, name="first bundle", daemon=True).start()

    def get(self) -> PublishedBundle:
        """The published bundles.

        Raises:
            HTTPException: none is in force yet (status 503).
        """
        if self._found is None:
            raise HTTPException(503, f"no bundle is in force in {self._folder}: promote a version first", {"retry-after": "10"})
        return self._found

    def _wait(self) -> None:
        while self._found is None:
            time.sleep(self._seconds)
            self._found = self._try(self._folder, self._seconds)

    @staticmethod
    def _try(folder: Path, seconds: float) -> PublishedBundle | None:
        try:
            return PublishedBundle(folder, seconds=seconds)
        except FileNotFoundError:
            log.warning("no bundle is in force in %s yet", folder)
        except (OSError, ValueError):
            log.exception("the bundle in force in %s cannot be used", folder)
        return None


def make_app(options: Options) -> ASGIApp:
    """The server as an ASGI application."""
    import faiss

    torch.set_num_threads(1)  # requests are computed side by side, so each has one core
    faiss.omp_set_num_threads(1)
    awaited, registry = Awaited(options.folder, options.seconds), CollectorRegistry()
    app = FastAPIOffline(title="ESANS recommendations", description=_ABOUT, version="1", lifespan=_with_waiting)
    together = Together(options.threads)
    answered = Counter(
        "esans_answers", "Answers, by bundle, and whether they were fallbacks", ["bundle", "fallback"], registry=registry
    )

    @app.post("/recommend", response_model=Answers, summary="Items for users, from their histories")
    def recommend(asked: RecommendRequest) -> Response:
        bundles = awaited.get()
        of_bundle = _by_bundle(bundles, asked)
        answers: list[Answer | None] = [None] * len(asked.histories)
        for served, rows in of_bundle:
            found = _or_400(
                together.recommend,
                served,
                [asked.histories[row] for row in rows],
                None if asked.users is None else [asked.users[row] for row in rows],
                None if asked.unwanted is None else [asked.unwanted[row] for row in rows],
                k=asked.k,
                strict=asked.strict,
                exclude=asked.exclude,
                filter=asked.filter,
                popularity=asked.popularity,
                why=asked.why,
            )
            for row, answer in zip(rows, found, strict=True):
                answers[row] = Answer.of(answer, served.name)
        return _said([answer for answer in answers if answer is not None], answered)

    @app.post("/similar", response_model=Answers, summary="Items that are like an item")
    def similar(asked: SimilarRequest) -> Response:
        served = awaited.get().served
        found = _or_400(served.bundle.similar, asked.items, asked.k, exclude=asked.exclude, filter=asked.filter)
        return _said([Answer.of(answer, served.name) for answer in found], answered)

    @app.get("/bundle", summary="What the server answers from")
    def bundle() -> State:
        bundles = awaited.get()
        served, canary = bundles.served, bundles.canary
        attributes = served.bundle.attributes
        return State(
            bundle=served.name,
            about=served.bundle.about,
            item_attributes=dict(attributes.kinds) if attributes else {},
            user_attributes=dict(served.bundle.user_attributes),
            canary=canary[0].name if canary else None,
            canary_share=canary[1] if canary else 0.0,
        )

    @app.get("/health", summary="Whether the process lives; needs no password")
    async def health() -> dict[str, str]:
        return {"state": "up"}

    @app.get("/ready", summary="Whether it can answer; needs no password")
    async def ready() -> dict[str, str]:
        return {"state": "ready", "bundle": awaited.get().served.name}

    @app.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    def metrics() -> Response:
        shown = registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            shown = CollectorRegistry()
            multiprocess.MultiProcessCollector(shown)
        return Response(generate_latest(shown), media_type=CONTENT_TYPE_LATEST)

    rate = limits.parse(options.rate) if options.rate else None
    guarded = Guard(app, token=options.token, max_bytes=options.max_bytes, rate=rate)
    return _Measured(guarded, {str(getattr(route, "path", "")) for route in app.routes}, registry)


@asynccontextmanager
async def _with_waiting(_: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = _WAITING
    yield


def _by_bundle(bundles: PublishedBundle, asked: RecommendRequest) -> Iterable[tuple[Served, list[int]]]:
    """Which histories each bundle answers. Without keys, the history itself says who the user is."""
    if bundles.canary is None:
        return [(bundles.served, list(range(len(asked.histories))))]
    keys = asked.keys if asked.keys is not None else ["\0".join(history) for history in asked.histories]
    rows: dict[str, list[int]] = defaultdict(list)
    served: dict[str, Served] = {}
    for row, key in enumerate(keys):
        chosen = bundles.served_for(key)
        served[chosen.name] = chosen
        rows[chosen.name].append(row)
    return [(served[name], rows[name]) for name in served]


def _or_400(answer: Any, *given: Any, **named: Any) -> list[Recommendation]:
    """Call a bundle. What it refuses is the caller's mistake."""
    try:
        return answer(*given, **named)  # type: ignore[no-any-return]
    except ValueError as error:
        raise HTTPException(400, str(error)) from error


def _said(answers: list[Answer], answered: Counter) -> Response:
    """The answers as JSON. They are not checked against their own types again, which would take longer than to find them."""
    for answer in answers:
        answered.labels(answer.bundle, str(answer.fallback).lower()).inc()
    return Response(Answers.model_construct(answers=answers).model_dump_json(), media_type="application/json")


class _Measured:
    """Counts requests, and how long they take, by path and status."""

    def __init__(self, app: ASGIApp, paths: set[str], registry: CollectorRegistry) -> None:
        self._app, self._paths = app, paths
        self._seconds = Histogram(
            "esans_request_seconds",
            "Time to answer a request",
            ["path", "status"],
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._seconds.labels(path, str(status)).observe(time.perf_counter() - started)
