"""The server of `bcgraph view`: on this machine alone, and for the page alone that holds its token.

A page of another site can reach a local server through the browser. So each call must name this server as its host
(which a name that was bound to 127.0.0.1 does not), come from this page or from none, and carry the token.
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bcgraph.errors import BcgraphError, RunError
from bcgraph.view.network import NetworkPage
from bcgraph.view.search import SearchPage

HOST = "127.0.0.1"
MAX_BYTES = 1024 * 1024
"""Of a request."""

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class Guard:
    """Refuses every call that does not come from the page: by its host, its origin and its token."""

    app: ASGIApp
    hosts: frozenset[str]
    token: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on, or answer with 403."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        origin = request.headers.get("origin")
        given = request.headers.get("x-bcgraph-token") or request.query_params.get("token", "")
        refused = (
            request.headers.get("host") not in self.hosts
            or (origin is not None and origin.removeprefix("http://") not in self.hosts)
            or not secrets.compare_digest(given.encode(), self.token.encode())
        )
        if refused:
            await Response("refused", status_code=403, headers=_HEADERS)(scope, receive, send)
            return
        await self.app(scope, receive, send)


Call = Callable[[Any], Mapping[str, Any]]


def application(shown: NetworkPage | SearchPage, token: str, port: int) -> ASGIApp:
    """The application that serves a network or a search."""
    routes = _network(shown) if isinstance(shown, NetworkPage) else _search(shown)
    hosts = frozenset({f"{HOST}:{port}", f"localhost:{port}"})
    return Guard(Starlette(routes=routes), hosts, token)


def _network(shown: NetworkPage) -> list[Route]:
    def measured(given: Any) -> Mapping[str, Any]:
        shown.measure(given)
        return shown.show(given)

    def saved(given: Any) -> Mapping[str, Any]:
        text = shown.save(given)
        return {**shown.show(), "text": text}

    def opened(_: Any) -> Mapping[str, Any]:
        shown.reload()
        return shown.show()

    calls: dict[str, Call] = {"open": opened, "show": shown.show, "save": saved, "measure": measured}
    return [_page("network"), *(_call(name, call) for name, call in calls.items())]


def _search(shown: SearchPage) -> list[Route]:
    def report(request: Request) -> Response:
        return _answer(lambda: HTMLResponse(shown.report(), headers=_HEADERS))

    return [_page("search"), _call("state", lambda _: shown.state()), Route("/report", report)]


def _page(name: str) -> Route:
    folder = resources.files("bcgraph.view")

    def page(request: Request) -> Response:
        parts = {part: (folder / f"{name}.{part}").read_text("utf-8") for part in ("html", "js")}
        style = (folder / "view.css").read_text("utf-8")
        text = parts["html"].replace("/*STYLE*/", style).replace("/*SCRIPT*/", parts["js"])
        return HTMLResponse(text, headers=_HEADERS)

    return Route("/", page)


def _call(name: str, call: Call) -> Route:
    """A call with JSON in and out. What is wrong with its input is an answer, not a failure of the server."""

    async def endpoint(request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BYTES:
                return JSONResponse({"error": "the request is too large"}, status_code=413, headers=_HEADERS)
        try:
            given = json.loads(body or b"null")
        except ValueError:
            return JSONResponse({"error": "the request is no JSON"}, status_code=400, headers=_HEADERS)
        return await run_in_threadpool(_answer, lambda: JSONResponse(dict(call(given)), headers=_HEADERS))

    return Route(f"/api/{name}", endpoint, methods=["POST"])


def _answer(make: Callable[[], Response]) -> Response:
    try:
        return make()
    except BcgraphError as error:
        text = "\n".join(f"{d.message}" + (f" ({d.hint})" if d.hint else "") for d in error.diagnostics)
        return JSONResponse({"error": text}, status_code=422, headers=_HEADERS)


@dataclass
class View:
    """A server that is ready to run; `url` is the address of its page, with the token."""

    shown: NetworkPage | SearchPage
    port: int = 0
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    url: str = ""

    def __post_init__(self) -> None:
        self._socket = _listening(self.port)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}/?token={self.token}"
        settings: dict[str, Any] = {"log_level": "error", "access_log": False, "lifespan": "off"}
        config = uvicorn.Config(application(self.shown, self.token, self.port), **settings)
        self.server = uvicorn.Server(config)

    def run(self) -> None:
        """Serve until Ctrl-C."""
        self.server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End `run` in another thread."""
        self.server.should_exit = True


def _listening(port: int) -> socket.socket:
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
    except OSError as error:
        found.close()
        reason = (error.strerror or str(error)).lower()
        raise RunError("E096", f"port {port} cannot be listened on: {reason}", hint="choose another --port") from None
    found.listen()
    return found
