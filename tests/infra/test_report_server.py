"""The server of the reports: who gets in, what is handed out, and that nothing outside its folders is."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from infra.local.environment import USER
from jobs.base.errors import DataError
from jobs.base.files import write_json
from jobs.report.server import application

PASSWORD = "p4ss:wörd"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one report, its run in Airflow, Data Docs, and a secret beside them."""
    home = tmp_path_factory.mktemp("served") / "home"
    for name, text in (
        ("reports/2026-01-28/index.html", "report"),
        ("reports/2026-01-28/metrics.png", "picture"),
        ("gx/uncommitted/data_docs/local_site/index.html", "docs"),
        ("airflow/secrets.json", "secret"),
    ):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    (home / "reports" / "out").symlink_to(home / "airflow")
    (home / "reports" / "out.json").symlink_to(home / "airflow" / "secrets.json")
    write_json(home / "airflow" / "passwords.json", {USER: PASSWORD, "ann": "of Ann"})
    write_json(home / "runs" / "2026-01-28" / "steps" / "prepare.json", {"state": "success", "run": "manual__1+00:00"})
    return home


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ESANS_HOME", str(home))
        patch.setenv("ESANS_USERS_FILE", str(home / "airflow" / "passwords.json"))
        patch.setenv("ESANS_AIRFLOW_UI", "http://127.0.0.1:8080")
        yield TestClient(application(), base_url="http://127.0.0.1:8090", follow_redirects=False)


WHO = (USER, PASSWORD.encode())


def test_nobody_gets_in_without_the_password(client: TestClient) -> None:
    for path in ("/", "/2026-01-28/", "/data-docs/index.html", "/run/manual__1", "/nothing"):
        for who in (None, (USER, ""), (USER, "wrong"), ("root", PASSWORD.encode())):
            answer = client.get(path, auth=who)
            assert answer.status_code == 401 and answer.headers["WWW-Authenticate"].startswith("Basic"), (path, who)
            assert "report" not in answer.text
    assert client.get("/", auth=WHO).status_code == client.get("/", auth=("ann", "of Ann")).status_code == 200
    assert client.get("/", auth=("ann", PASSWORD.encode())).status_code == 401


@pytest.mark.parametrize("users", [{}, [], {"admin": ""}, {"admin": None}])
def test_a_file_without_users_starts_no_server(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, users: object
) -> None:
    (tmp_path / "users.json").write_text(json.dumps(users))
    monkeypatch.setenv("ESANS_HOME", str(home))
    monkeypatch.setenv("ESANS_USERS_FILE", str(tmp_path / "users.json"))
    with pytest.raises(DataError, match="names no user with a password"):
        application()


def test_the_start_page_is_there_before_the_first_run_and_pages_follow_their_files(client: TestClient, home: Path) -> None:
    assert "No model is in force yet" in client.get("/", auth=WHO).text
    answer = client.get("/2026-01-28/", auth=WHO)
    assert answer.text == "report" and answer.headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'self' http://127.0.0.1:8080" in answer.headers["Content-Security-Policy"]
    assert client.get("/data-docs/", auth=WHO).text == "docs"
    far_up = client.get("/data-docs/../../../../reports/2026-01-28/index.html", auth=WHO)  # a link of the Data Docs
    assert far_up.text == "report"
    (home / "reports" / "2026-01-28" / "index.html").write_text("renewed")
    assert client.get("/2026-01-28/", auth=WHO).text == "renewed"


def test_a_run_of_airflow_leads_to_its_report(client: TestClient) -> None:
    assert client.get("/run/manual__1%2B00%3A00", auth=WHO).headers["Location"] == "/2026-01-28/"
    assert client.get("/run/unknown", auth=WHO).headers["Location"] == "/"


@pytest.mark.parametrize(
    "path",
    [
        "/../airflow/secrets.json", "/%2e%2e/airflow/secrets.json", "/..%2fairflow%2fsecrets.json",
        "/2026-01-28/../../airflow/secrets.json",
        "/out/secrets.json", "/out.json", "//etc/passwd", "/%2fetc%2fpasswd", "/data-docs/../../../../airflow/secrets.json",
        "/data-docs/..%2f..%2f..%2f..%2fairflow%2fsecrets.json", "/x%00.html",
    ],
)  # fmt: skip
def test_nothing_outside_is_handed_out(client: TestClient, path: str) -> None:
    # The client would tidy the path, so it goes in as a server gets it.
    raw = client.build_request("GET", "/")
    raw.url = raw.url.copy_with(raw_path=path.encode())
    answer = client.send(raw, auth=WHO)
    assert answer.status_code == 404 and "secret" not in answer.text and "root:" not in answer.text


def test_it_is_for_reading_alone_and_for_this_machine_alone(client: TestClient, home: Path) -> None:
    before = sorted(home.rglob("*"))
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/2026-01-28/index.html", auth=WHO).status_code == 405
    assert client.get("/", auth=WHO, headers={"Host": "elsewhere.example"}).status_code == 400
    assert sorted(home.rglob("*")) == before
