"""The service's HTTP side."""

import json
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from textstats import stats

from .store import BadName, Store

NOTE_SIZE_MAX = 64 * 1024


def serve(host: str, port: int, store: Store) -> ThreadingHTTPServer:
    """Makes a server that answers from a store."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self._name()
            if name is None:
                self._answer(HTTPStatus.OK, {"notes": store.names()})
                return
            try:
                text = store.read(name)
            except BadName:
                text = None
            if text is None:
                self._answer(HTTPStatus.NOT_FOUND, {"error": f"no note {name}"})
            else:
                self._answer(HTTPStatus.OK, {"text": text, "stats": asdict(stats(text))})

        def do_PUT(self) -> None:
            size = int(self.headers.get("Content-Length", "0"))
            if size > NOTE_SIZE_MAX:
                self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "too long"})
                return
            text = self.rfile.read(size).decode("utf-8", errors="replace")
            try:
                store.write(self._name() or "", text)
            except BadName:
                self._answer(HTTPStatus.BAD_REQUEST, {"error": "not a name"})
            else:
                self._answer(HTTPStatus.CREATED, asdict(stats(text)))

        def _name(self) -> str | None:
            return self.path.strip("/") or None

        def _answer(self, status: HTTPStatus, body: object) -> None:
            data = json.dumps(body).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return ThreadingHTTPServer((host, port), Handler)
