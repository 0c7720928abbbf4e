"""A hub served here: as much of the Hugging Face hub's HTTP interface as its client needs, for one repository."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        server, path = self.server, self.path.partition("?")[0]
        files = {file.relative_to(server.repository).as_posix(): file for file in server.repository.rglob("*.*")}
        api = f"/api/{server.kind}/{server.name}"
        resolve = f"/{'' if server.kind == 'models' else server.kind + '/'}{server.name}/resolve/{COMMIT}/"
        headers = {}
        if f"/tree/{COMMIT}" in path:
            listed = [{"path": name, "size": file.stat().st_size, "oid": "0" * 40} for name, file in files.items()]
            body = json.dumps([{"type": "file"} | entry for entry in listed]).encode()
        elif path == api or path.startswith(f"{api}/"):
            siblings = [{"rfilename": name} for name in files]
            body = json.dumps({"id": server.name, "sha": COMMIT, "siblings": siblings}).encode()
        elif path.startswith(resolve) and server.gated and self.headers["Authorization"] != f"Bearer {server.gated}":
            return self.refuse(403 if self.headers["Authorization"] else 401, "GatedRepo")
        elif path.startswith(resolve):
            body = files[path.removeprefix(resolve)].read_bytes()
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(body).hexdigest()}"'}
        else:
            return self.refuse(404, "RepoNotFound")
        server.served.append(f"{self.command} {path}")
        self.send_response(200)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            cut = server.cut is not None and path.endswith(server.cut)
            self.wfile.write(body[: len(body) // 2] if cut else body)
        return None

    do_HEAD = do_GET

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serve(repository: Path, name: str, kind: str = "models"):
    """The server of one repository. `served`: requests answered; `cut`: files with this ending break off; `gated`: the
    token that it wants.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.repository, server.name, server.kind = repository, name, kind
    server.served, server.cut, server.gated = [], None, None
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def client(server, home: Path, code: str, **variables: str) -> subprocess.CompletedProcess:
    """Run Python code in a process of its own, with this hub: its client reads its settings on import."""
    settings = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0", "HF_HOME": str(home)}
    kept = {key: value for key, value in os.environ.items() if "proxy" not in key.lower() and key != "HF_TOKEN"}
    environment = kept | settings | variables
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
