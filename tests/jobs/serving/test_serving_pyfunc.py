"""A registered version where the project is not installed: loaded by name, and answering over HTTP."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
from bundles import build, write_challenger
from source_builder import publish

from esans_core.serving.bundle import ServingBundle, checked
from esans_core.serving.published import PublishedBundle
from infra.local.processes import await_answer, free_port
from jobs.base.places import copy_files
from jobs.base.settings import PipelineSettings
from jobs.base.tracking import start_or_resume_run
from jobs.lake.tables import Lake
from jobs.registry.versions import download_artifact, download_version, register_version
from jobs.serving import bundle as module
from jobs.serving import pyfunc_model
from jobs.serving.bundle import build_bundle
from jobs.serving.store import ServingStore
from jobs.serving.verified import IN_MODEL
from jobs.training.model_store import load_towers
from tests.tutorials import blocks

pytestmark = pytest.mark.mlflow

DOCS = {kind: [block.text for block in blocks("../serving.md") if block.kind == kind] for kind in ("registry", "mlflow")}
USER = """
import json, os, sys
import mlflow, pandas as pd
exec("\\n".join(line for line in os.environ["OF_THE_DOCS"].splitlines() if not line.startswith("mlflow.set_tracking_uri")))
model = mlflow.pyfunc.load_model("models:/esans-retrieval@champion")
histories = [["i0003", "unknown", "i0004"], [], ["nobody"]]
lists = model.predict(histories, params={"k": 5})
frame = model.predict(pd.DataFrame({"history": histories}), params={"k": 5})
assert lists == frame
try:
    model.predict(histories, params={"k": 100000})
except mlflow.exceptions.MlflowException as error:
    assert error.error_code == "INVALID_PARAMETER_VALUE" and "from 1 to 1000" in str(error)
else:
    raise AssertionError
try:
    model.predict(histories, params={"strict": True})
except mlflow.exceptions.MlflowException as error:
    assert error.error_code == "INVALID_PARAMETER_VALUE" and "history 0" in str(error) and "'unknown'" in str(error)
else:
    raise AssertionError
exclude = lists[0].item_id[:2]
narrow = {"k": 3, "exclude": exclude, "filter": '{"price": {"min": 20, "max": 80}}'}
filtered = model.predict(histories, params=narrow)
for wrong, word in (({"filter": '{"colour": ["red"]}'}, "price (number)"), ({"filter": "price > 3"}, "expected JSON")):
    try:
        model.predict(histories, params=wrong)
    except mlflow.exceptions.MlflowException as error:
        assert error.error_code == "INVALID_PARAMETER_VALUE" and word in str(error)
    else:
        raise AssertionError
signature = model.metadata.signature.to_dict()
print(json.dumps({
    "answers": [answer.model_dump() for answer in lists],
    "narrow": narrow | {"filter": json.loads(narrow["filter"])},
    "filtered": [answer.model_dump() for answer in filtered],
    "default": len(model.predict([["i0001"]])[0].item_id),
    "signature": signature,
    "strangers": sorted({"airflow", "jobs"} & set(sys.modules)),
    "library": sys.modules["esans_core"].__file__,
}))
"""


@pytest.fixture
def registered(settings: PipelineSettings, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A champion; returns the environment of a user who has the store's address and nothing of the project."""
    monkeypatch.setattr(module, "_TIMED_QUERIES", 5)
    write_challenger(settings)
    items = Lake.of(settings).read_pandas("items", settings.date)
    publish(settings, "items", items.assign(attributes=[{"price": float(row)} for row in range(len(items))]))
    digest = build_bundle(settings, home / "scratch" / "bundle")["digest"]
    copy_files(Lake.of(settings).path("challenger", settings.date), home / "scratch" / "model")
    with start_or_resume_run(settings, "key", "challenger"):
        version, new = register_version(
            settings,
            home / "scratch" / "bundle",
            home / "scratch" / "model",
            run_key="key",
            tags={"esans.bundle_digest": digest},
            description="card",
        )
    shutil.rmtree(home / "scratch")
    assert new
    mlflow.MlflowClient().set_registered_model_alias(version.name, "champion", version.version)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | {
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def expected(settings: PipelineSettings, histories: list[list[str]], k: int, **asked: Any) -> list[dict]:
    version = mlflow.MlflowClient().get_model_version_by_alias(settings.registry.model_name, "champion")
    assert load_towers(download_version(version, settings))[2][0] == "i0000"
    folder = download_artifact(version, settings, IN_MODEL)
    bundle, name = ServingBundle(folder), f"{settings.ds}-v{version.version}-{checked(folder)['digest'][:8]}"
    return [
        {
            "item_id": found.item_ids,
            "score": pytest.approx(found.scores, abs=1e-6),
            "fallback": found.fallback,
            "unknown_item_id": found.unknown_ids,
            "bundle": name,
        }
        for found in bundle.recommend(histories, k, **asked)
    ]


@pytest.mark.slow
def test_the_champion_is_loaded_and_served_where_the_project_is_not(
    settings: PipelineSettings, registered: dict[str, str], tmp_path: Path
) -> None:
    environment = registered | {"OF_THE_DOCS": DOCS["registry"][0]}
    done = subprocess.run([sys.executable, "-c", USER], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["answers"] == expected(settings, [["i0003", "unknown", "i0004"], [], ["nobody"]], 5)
    assert said["filtered"] == expected(settings, [["i0003", "unknown", "i0004"], [], ["nobody"]], **said["narrow"])
    assert said["filtered"] != said["answers"] and len(said["filtered"][0]["item_id"]) == 3
    assert [answer["fallback"] for answer in said["answers"]] == [False, True, True]
    assert [answer["unknown_item_id"] for answer in said["answers"]] == [["unknown"], [], ["nobody"]]
    assert said["default"] == 100 and said["strangers"] == []
    assert "/artifacts/" in said["library"], "the library comes with the version"
    assert "Array(string)" in str(mlflow.types.Schema.from_json(said["signature"]["inputs"]))
    assert {parameter["name"] for parameter in json.loads(said["signature"]["params"])} == {
        "k", "strict", "exclude", "filter", "users", "unwanted", "popularity",
    }  # fmt: skip
    assert {"item_id", "score", "fallback", "unknown_item_id", "bundle"} <= json.loads(said["signature"]["outputs"])[0][
        "properties"
    ].keys()
    _served_over_http(settings, registered, tmp_path)


def _served_over_http(settings: PipelineSettings, environment: dict[str, str], tmp_path: Path) -> None:
    store, champion = ServingStore.of(settings), mlflow.MlflowClient().get_model_version_by_alias("esans-retrieval", "champion")
    folder = download_artifact(champion, settings, IN_MODEL)
    own = f"{settings.ds}-v{champion.version}-{checked(folder)['digest'][:8]}"
    store.add(folder, own)
    store.activate(own, by="ann", reason="the first", version=champion.version)
    port = free_port()
    command = ["serve", "-m", "models:/esans-retrieval@champion", "--env-manager", "local", "--host", "127.0.0.1"]
    assert f"mlflow models {' '.join(command)} --port 5055" in DOCS["mlflow"][0]
    log = tmp_path / "server.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "models", *command, "--port", str(port)],
            cwd=tmp_path,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        base = f"http://127.0.0.1:{port}"
        await_answer(server, f"{base}/health", log=log)
        asked = {"inputs": [["i0003", "unknown", "i0004"], []], "params": {"k": 5}}
        answer = requests.post(f"{base}/invocations", json=asked, timeout=30)
        assert answer.ok, log.read_text()
        assert answer.json()["predictions"] == expected(settings, asked["inputs"], 5)
        typed = ["bash", "-euc", DOCS["mlflow"][1].replace("5055", str(port))]
        said = json.loads(subprocess.run(typed, capture_output=True, text=True, check=True).stdout)
        assert [len(found["item_id"]) for found in said["predictions"]] == [5, 5]
        asked["params"] |= {"exclude": ["i0005"], "filter": json.dumps({"price": {"max": 9}})}
        answer = requests.post(f"{base}/invocations", json=asked, timeout=30)
        narrow = expected(settings, asked["inputs"], 5, exclude=["i0005"], filter={"price": {"max": 9}})
        assert answer.json()["predictions"] == narrow
        for wrong, word in (
            ({"inputs": [["i0003"]], "params": {"k": 0}}, "from 1 to 1000"),
            ({"inputs": [["i0003", "nobody"]], "params": {"strict": True}}, "nobody"),
            ({"inputs": [["i0003"]], "params": {"filter": '{"colour": ["red"]}'}}, "price (number)"),
            ({"inputs": ["i0003"]}, "Expected list"),
            ({"dataframe_split": {"columns": ["history"], "data": [[["i0003"]]]}}, "'inputs' key"),
        ):
            refused = requests.post(f"{base}/invocations", json=wrong, timeout=30)
            assert refused.status_code == 400 and word in refused.text
        _follows_what_is_in_force(settings, base, log, tmp_path)
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def _follows_what_is_in_force(settings: PipelineSettings, base: str, log: Path, tmp_path: Path) -> None:
    """Promotions and rollbacks reach the running server. No request is lost, and each answer is of the bundle that it names."""
    store, asked = ServingStore.of(settings), {"inputs": [["i0003", "i0004"]], "params": {"k": 5}}
    answers: dict[str, list[str]] = {}
    for seed, version in ((1, "7"), (2, "8")):
        folder = build(settings, tmp_path / version, seed)
        name = f"{settings.ds}-v{version}-{checked(folder)['digest'][:8]}"
        store.add(folder, name)
        answers[name] = ServingBundle(folder).recommend(asked["inputs"], 5)[0].item_ids
    seen: list[tuple[str, list[str]]] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answer = requests.post(f"{base}/invocations", json=asked, timeout=60)
            row = answer.json()["predictions"][0] if answer.ok else {"bundle": answer.text, "item_id": []}
            seen.append((row["bundle"], row["item_id"]))

    callers = [threading.Thread(target=ask) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        older, newer = answers
        for name in (older, newer, older):
            store.activate(name, by="ann", reason="because", version=name.split("-v")[1][0])
            deadline = time.monotonic() + 60
            while seen[-1:] == [] or seen[-1][0] != name:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    first = seen[0]
    assert first[0] not in answers and {name for name, _ in seen} == {first[0], older, newer}
    assert all(found == answers[name] for name, found in seen if name in answers)


class _Context:
    """What MLflow gives to a model that it loads."""

    def __init__(self, folder: Path, settings: PipelineSettings) -> None:
        self.artifacts = {"bundle": str(folder)}
        self.model_config = {pyfunc_model.FOLDER: str(settings.serving_root)}


def test_a_version_follows_once_it_is_in_force_unless_that_is_switched_off(
    settings: PipelineSettings, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TIMED_QUERIES", 5)
    monkeypatch.setattr(pyfunc_model, "PublishedBundle", partial(PublishedBundle, seconds=0.1, patience=0.1))
    write_challenger(settings)
    store, names = ServingStore.of(settings), []
    folders = [build(settings, tmp_path / "made" / version, int(version)) for version in "123"]
    for version, folder in zip("123", folders, strict=True):
        names.append(f"{settings.ds}-v{version}-{checked(folder)['digest'][:8]}")
        store.add(folder, names[-1])

    def loaded(folder: Path) -> pyfunc_model.RetrievalModel:
        model = pyfunc_model.RetrievalModel()
        model.load_context(_Context(folder, settings))
        return model

    def answers_from(model: pyfunc_model.RetrievalModel) -> str:
        return str(model.predict(None, [["i0003"]], {"k": 3})[0].bundle)

    store.activate(names[0], by="ann", reason="the first", version="1")
    champion, looked_at = loaded(folders[0]), loaded(folders[1])
    monkeypatch.setenv(pyfunc_model.FOLLOW, "off")
    fixed = loaded(folders[0])
    own = [answers_from(model) for model in (fixed, looked_at)]
    broken = store.path(names[2]) / "bundle.json"
    store.activate(names[2], by="ann", reason="the next", version="3")
    whole = broken.read_bytes()
    broken.write_text("{")
    time.sleep(0.5)
    broken.write_bytes(whole)  # such as a disk that was mounted late
    deadline = time.monotonic() + 30
    while answers_from(champion) != names[2]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [answers_from(model) for model in (fixed, looked_at)] == own
    store.activate(names[1], by="ann", reason="it is better", version="2")
    store.activate(names[0], by="ann", reason="no", version="1")
    while answers_from(champion) != names[0]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
