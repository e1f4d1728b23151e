"""The reports of a stack over HTTP: `<home>/reports` and the Data Docs, read-only, with the password of Airflow.

Only files below the two folders are handed out. A link that leads out of them is not followed. Nothing is ever written for a
request, and a page can load no script, style or picture from elsewhere.

    ESANS_HOME=<home> ESANS_USERS_FILE=<users.json> uvicorn --factory jobs.report.server:application

The users are those of Airflow: its file of passwords, a JSON object of name and password, says who may read.
"""

import base64
import hmac
import json
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.pages.addresses import DATA_DOCS, run_of
from jobs.report.history import publish_history

_HEADERS = {
    "Cache-Control": "no-store",  # a page is written anew under the same address
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_MAY_LOAD = "default-src 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'; base-uri 'none'"


class Guard:
    """Asks for a user's name and password, and adds the headers that keep a page to itself.

    Args:
        app: what is guarded.
        users: the password of each user.
        framed_by: origin whose pages may show these in a frame: Airflow's.
    """

    def __init__(self, app: ASGIApp, users: Mapping[str, str], framed_by: str) -> None:
        self._app = app
        self._wanted = [b"Basic " + base64.b64encode(f"{user}:{password}".encode()) for user, password in users.items()]
        policy = f"{_MAY_LOAD}; form-action 'none'; frame-ancestors 'self' {framed_by}".strip()
        self._headers = [
            (name.encode(), value.encode()) for name, value in (_HEADERS | {"Content-Security-Policy": policy}).items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer 401."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message["headers"], *self._headers]}  # type: ignore[misc]
            await send(message)

        given = dict(scope["headers"]).get(b"authorization", b"")
        known = [hmac.compare_digest(given, wanted) for wanted in self._wanted]  # all of them, so that the time tells nothing
        inner: ASGIApp = self._app if any(known) else _ASK
        await inner(scope, receive, answer)  # type: ignore[arg-type]


_ASK = PlainTextResponse(
    "This page asks for the user and the password of Airflow.\n",
    401,
    {"WWW-Authenticate": 'Basic realm="reports", charset="UTF-8"'},
)


def application() -> Starlette:
    """The server's application, for `uvicorn --factory`. Its start renews the start page.

    Raises:
        DataError: the file of users names nobody, or a user without a password.
    """
    home, users = Path(os.environ["ESANS_HOME"]), _users()
    reports, docs = home / "reports", home / DATA_DOCS
    docs.mkdir(parents=True, exist_ok=True)
    publish_history(PipelineSettings(home=home))

    def report_of(request: Request) -> Response:
        """To the report of an Airflow run, or to the start page if that run left none."""
        run = request.path_params["run"]
        for folder in sorted((home / "runs").glob("????-??-??"), reverse=True):
            if run_of(folder) == run and (reports / folder.name / "index.html").exists():
                return RedirectResponse(f"/{quote(folder.name)}/")
        return RedirectResponse("/")

    return Starlette(
        routes=[
            Route("/run/{run}", report_of, methods=["GET"]),
            Mount("/data-docs", StaticFiles(directory=docs, html=True)),
            Mount("/reports", StaticFiles(directory=reports, html=True)),  # where the Data Docs' links lead, as on disk
            Mount("/", StaticFiles(directory=reports, html=True)),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"]),
            Middleware(Guard, users=users, framed_by=os.environ.get("ESANS_AIRFLOW_UI", "")),
        ],
    )


def _users() -> dict[str, str]:
    path = Path(os.environ["ESANS_USERS_FILE"])
    users = json.loads(path.read_text())
    if not isinstance(users, dict) or not users or not all(isinstance(word, str) and word for word in users.values()):
        raise DataError(f"{path} names no user with a password.", remedy='write {"admin": "<password>"} into it.')
    return users
