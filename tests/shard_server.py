"""Files in memory, served over HTTP on the loopback address by a server that breaks when told."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest


@dataclass
class ShardServer:
    """What is served, how it is broken, and what was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    """By path, without the leading slash."""
    faults: list[str | int] = field(default_factory=list)
    """What befalls the next downloads, one each: a status, "cut", "stall", "corrupt", "grow"."""
    head_faults: list[int] = field(default_factory=list)
    """Statuses that answer the next questions about files."""
    lists: bool = False
    tags: bool = True
    sizes: bool = True
    sums: bool = False
    requests: list[str] = field(default_factory=list)
    slow: threading.Event | None = None
    """Where set, half of a download comes, and the rest when the event is set."""
    url: str = ""

    def __enter__(self) -> ShardServer:
        running = self

        class Handler(_Handler):
            served = running

        self.go_on = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def count(self, method: str) -> int:
        return sum(request.startswith(method) for request in self.requests)


class _Handler(BaseHTTPRequestHandler):
    served: ShardServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        fault = self.served.head_faults.pop(0) if self.served.head_faults else None
        self._answer(fault, body=False)

    def do_GET(self) -> None:
        self._answer(None, body=True)

    def _answer(self, fault: str | int | None, body: bool) -> None:
        path = urlsplit(self.path).path.lstrip("/")
        self.served.requests.append(f"{self.command} {path}")
        if path.endswith("/") and self.served.lists:
            names = [name for name in self.served.files if name.startswith(path)]
            links = "".join(f'<a href="{name.removeprefix(path)}">x</a>' for name in names)
            self._send(200, links.encode(), {"Content-Type": "text/html"}, body)
            return
        content = self.served.files.get(path)
        if content is None:
            self._send(404, b"", {}, body)
            return
        if body and path.endswith(".tar") and self.served.faults:
            fault = self.served.faults.pop(0)
        if isinstance(fault, int):
            self._send(fault, b"out of order", {}, body)
            return
        headers = {}
        if self.served.tags:
            headers["ETag"] = f'"{hashlib.sha1(content).hexdigest()}"'
        if self.served.sums:
            headers["Content-MD5"] = base64.b64encode(hashlib.md5(content).digest()).decode()
        if fault == "corrupt":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if fault == "grow":
            self.served.files[path] = content + b"\0" * 512
        self._send(200, content, headers, body, str(fault))

    def _send(
        self, code: int, content: bytes, headers: dict[str, str], body: bool, fault: str = ""
    ) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.served.sizes:
            self.send_header("Content-Length", str(len(content)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if not body or not content:
            return
        half = len(content) // 2
        if fault not in ("cut", "stall") and self.served.slow is None:
            self.wfile.write(content)
            return
        with suppress(ConnectionError):  # whoever asked may be gone by now
            self._write_halves(content, half, fault)

    def _write_halves(self, content: bytes, half: int, fault: str) -> None:
        self.wfile.write(content[:half])
        self.wfile.flush()
        if fault == "cut":
            self.connection.close()
            self.close_connection = True
            return
        ((fault != "stall" and self.served.slow) or self.served.go_on).wait(30)
        self.wfile.write(content[half:])


@pytest.fixture
def shard_server() -> Iterator[ShardServer]:
    with ShardServer() as running:
        yield running
