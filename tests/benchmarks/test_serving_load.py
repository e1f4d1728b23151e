"""The load of the serving benchmark: every request is counted once, and one that is lost is told."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from benchmarks.serving_load import Size, load, make_store
from esans_core.serving.bundle import ServingBundle
from infra.local.processes import free_port


def test_lost_requests_are_counted() -> None:
    answered = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal answered
        number = answered = answered + 1
        await asyncio.sleep(0.005)
        return web.Response(text="item_id", status=500 if number > 20 and number % 10 == 0 else 200)

    async def measured():
        app = web.Application()
        app.router.add_post("/recommend", answer)
        runner, port = web.AppRunner(app), free_port()
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        found = await load(f"http://127.0.0.1:{port}/recommend", [{"histories": [[]]}] * 20, Size(1, callers=3, seconds=0.5))
        await runner.cleanup()
        return found

    found = asyncio.run(measured())
    counted = answered - 20  # the first ones warm the server
    assert len(found.seconds) == counted > 10 and min(found.seconds) >= 0.005
    assert found.lost == answered // 10 - 2


@pytest.mark.slow
def test_the_store_holds_two_bundles_of_one_catalogue(tmp_path: Path) -> None:
    store, names, histories = make_store(Size(600), tmp_path)
    assert store.names() == names and store.current() == names[0]
    first, second = (ServingBundle(store.path(name)).recommend(histories[:2], 100) for name in names)
    assert first == second and len(first[0].item_ids) == 100
