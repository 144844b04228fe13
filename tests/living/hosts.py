"""A GitHub and a GitLab on the loopback, as far as comments and the repository clinics/model go."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "secret-token"
BOT, PERSON = 7, 8

# (method, path) as the hosts document them: issue comments of GitHub, notes of GitLab.
LIST = re.compile(r"/(?:repos/clinics/model/issues|projects/clinics%2Fmodel/merge_requests)/5/(?:comments|notes)")
ONE = re.compile(r"/(?:repos/clinics/model/issues/comments|projects/clinics%2Fmodel/merge_requests/5/notes)/(\d+)")
# The repository is private: git gets it for a job's token, under the name that each host has for that.
REPOSITORY = re.compile(r"/clinics/model(?:\.git)?(/.*)")
BASIC = {base64.b64encode(f"{user}:{TOKEN}".encode()).decode() for user in ("x-access-token", "gitlab-ci-token")}


@dataclass
class Host:
    """comments: (author, text) by id, in order. requests: "METHOD path" of all that was asked of the APIs.

    repository: the git folder of clinics/model.
    """

    repository: Path
    comments: dict[int, tuple[int, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""
    broken: int = 0  # answer with this code

    def texts(self, author: int = BOT) -> list[str]:
        return [text for who, text in self.comments.values() if who == author]


@contextmanager
def running_host(repository: Path) -> Iterator[Host]:
    """A host that knows both APIs and serves a repository to git, for the time of the block."""
    host = Host(repository)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            path, _, query = self.path.partition("?")
            length = int(self.headers.get("Content-Length") or 0)
            content = self.rfile.read(length)
            if of_git := REPOSITORY.fullmatch(path):
                self.answer_git(of_git[1], query, content)
                return
            host.requests.append(f"{self.command} {path}")
            sent = json.loads(content) if content else {}
            code, answer = self.found(path, dict(re.findall(r"(\w+)=(\d+)", query)), sent)
            body = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            if code == 302:
                self.send_header("Location", "http://localhost:1/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_PUT = answer  # noqa: N815 (the library's names)

        def answer_git(self, path: str, query: str, content: bytes) -> None:
            if self.headers.get("Authorization", "").removeprefix("Basic ") not in BASIC:
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic")
                self.end_headers()
                return
            # https://git-scm.com/docs/git-http-backend
            asked = {
                "GIT_PROJECT_ROOT": str(host.repository.parent),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": f"/{host.repository.name}{path}",
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(content)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            command = ["git", "http-backend"]
            done = subprocess.run(command, input=content, env=os.environ | asked, capture_output=True, check=True)
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def found(self, path: str, query: Mapping[str, str], sent: Mapping[str, str]) -> tuple[int, Any]:
            given = (self.headers.get("Authorization"), self.headers.get("PRIVATE-TOKEN"))
            if host.broken:
                return host.broken, {"message": "no"}
            if given not in ((f"Bearer {TOKEN}", None), (None, TOKEN)):
                return 401, {"message": "Unauthorized"}
            one = ONE.fullmatch(path)
            if path == "/user":
                return 200, {"id": BOT}
            if LIST.fullmatch(path) and self.command == "GET":
                start = (int(query["page"]) - 1) * int(query["per_page"])
                return 200, [as_json(number) for number in list(host.comments)[start : start + int(query["per_page"])]]
            if LIST.fullmatch(path) and self.command == "POST":
                number = max(host.comments, default=0) + 1
                host.comments[number] = (BOT, sent["body"])
                return 201, as_json(number)
            if one and self.command == ("PATCH" if path.startswith("/repos") else "PUT"):
                host.comments[int(one[1])] = (host.comments[int(one[1])][0], sent["body"])
                return 200, as_json(int(one[1]))
            return 404, {"message": "Not Found"}

        def log_message(self, *args: object) -> None:
            pass

    def as_json(number: int) -> dict[str, Any]:
        author, text = host.comments[number]
        kind = "Bot" if author == BOT else "User"
        return {"id": number, "body": text, "user": {"type": kind}, "author": {"id": author}}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    host.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield host
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
