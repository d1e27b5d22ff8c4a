"""A hub on the loopback address: repositories in memory, served as huggingface.co serves them.

It can be told to break: to cut connections after some bytes, or to send other bytes than it
promised.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants, file_download

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".bin", ".pt")
"""Files that the hub stores by sha256; the rest it names by git's hash."""


@dataclass
class Hub:
    """What is served, how it is broken, and what was asked."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the next downloads of large files are cut off, one entry a download."""
    corrupt: bool = False
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def __enter__(self) -> Hub:
        hub = self

        class Handler(_Handler):
            served = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        asked = self.headers.get("Range")
        self.served.requests.append(f"{self.command} {self.path}{f' {asked}' if asked else ''}")
        path = urlsplit(self.path).path
        if path.startswith("/api/models/"):
            self._listing(path.removeprefix("/api/models/"))
            return
        repository, _, rest = path.removeprefix("/").partition("/resolve/")
        name = rest.partition("/")[2]
        files = self.served.repositories.get(repository)
        if files is None or name not in files:
            code = "RepoNotFound" if files is None else "EntryNotFound"
            self._send(404, b"", {"X-Error-Code": code, "X-Repo-Commit": COMMIT}, body)
            return
        self._file(name, files[name], asked, body)

    def _file(self, name: str, content: bytes, asked: str | None, body: bool) -> None:
        digest = hashlib.sha256(content).hexdigest()
        large = name.endswith(LARGE)
        tag = digest if large else digest[:40]
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if large:
            headers |= {"X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(len(content))}
            if self.served.corrupt:
                content = content[:-1] + bytes([content[-1] ^ 1])
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = self.served.cuts.pop(0) if body and large and self.served.cuts else None
        self._send(206 if start else 200, content[start:], headers, body, cut)

    def _listing(self, rest: str) -> None:
        owner, name, *_ = rest.split("/")
        files = self.served.repositories.get(f"{owner}/{name}")
        if files is None:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, True)
            return
        listed: Any = [
            {"type": "file", "path": path, "size": len(raw), "oid": "0" * 40}
            for path, raw in files.items()
        ]
        if "/tree/" not in rest:
            siblings = [{"rfilename": path} for path in files]
            listed = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings}
        content = json.dumps(listed).encode()
        self._send(200, content, {"Content-Type": "application/json"}, True)

    def _send(
        self, code: int, content: bytes, headers: dict[str, str], body: bool, cut: int | None = None
    ) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[:cut])
        if cut is not None:
            self.wfile.flush()
            self.connection.close()
            self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a hub, and make this process take it for huggingface.co."""
    with Hub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
        monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
        huggingface_hub.utils.disable_progress_bars()
        yield running
