"""A GitHub and a GitLab on the loopback, as far as comments go, and the parts of their runners that matter here."""

from __future__ import annotations

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


@dataclass
class Host:
    """comments: (author, text) by id, in order. requests: "METHOD path" of all that was asked."""

    comments: dict[int, tuple[int, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""
    broken: int = 0  # answer with this code

    def texts(self, author: int = BOT) -> list[str]:
        return [text for who, text in self.comments.values() if who == author]


@contextmanager
def running_host() -> Iterator[Host]:
    """A host that knows both APIs, for the time of the block."""
    host = Host()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            path, _, query = self.path.partition("?")
            host.requests.append(f"{self.command} {path}")
            length = int(self.headers.get("Content-Length") or 0)
            sent = json.loads(self.rfile.read(length)) if length else {}
            code, content = self.found(path, dict(re.findall(r"(\w+)=(\d+)", query)), sent)
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            if code == 302:
                self.send_header("Location", "http://localhost:1/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_PUT = answer  # noqa: N815 (the library's names)

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


@dataclass
class Runner:
    """Runs the scripts of a job in a checkout as the host's runner does; `uses` steps are the test's own affair."""

    checkout: Path
    variables: dict[str, str]

    def run(self, shell: str, script: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*shell.split(), "-c", script],
            cwd=self.checkout,
            env=os.environ | self.variables | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def github_job(self, workflow: Mapping[str, Any], name: str, context: Mapping[str, str]) -> dict[str, int]:
        """The exit code of every step with a script, by the step's name; a failed one ends all but `always()`."""
        job = workflow["jobs"][name]
        environment = {
            key: expanded(value, context) for key, value in {**workflow["env"], **job.get("env", {})}.items()
        }
        assert expanded(f"${{{{ {job['if']} }}}}", context) == "true"
        codes: dict[str, int] = {}
        for step in job["steps"]:
            if "run" not in step:
                continue
            assert "${{" not in step["run"], "an expression in a script is an injection"
            condition = str(step.get("if", ""))
            if any(codes.values()) and "always()" not in condition:
                continue
            wanted = condition.replace("always()", "").replace("&&", "").strip()
            if wanted and expanded(f"${{{{ {wanted} }}}}", context) != "true":
                continue
            own = {key: expanded(value, context) for key, value in step.get("env", {}).items()}
            done = self.run("bash -e", step["run"], **(environment | own))
            codes[step["name"]] = done.returncode
            self.said = done.stdout + done.stderr
        return codes

    def gitlab_job(self, pipeline: Mapping[str, Any], name: str) -> tuple[int, int]:
        """The exit codes of script and after_script."""
        job = pipeline[name]
        environment = {key: str(value) for key, value in pipeline["variables"].items()}
        done = self.run("bash -eo pipefail", "\n".join(job["script"]), **environment)
        self.said = done.stdout + done.stderr
        after = self.run("bash -eo pipefail", "\n".join(job.get("after_script", [])), **environment)
        self.said += after.stdout + after.stderr
        return done.returncode, after.returncode


def expanded(text: object, context: Mapping[str, str]) -> str:
    """`text` with the expressions in it filled in: a name of the context, or two that are compared."""

    def value(word: str) -> str:
        word = word.strip()
        return word[1:-1] if word.startswith("'") else context[word]

    def fill(found: re.Match[str]) -> str:
        left, equals, right = found[1].partition("==")
        return str(value(left) == value(right)).lower() if equals else value(left)

    return re.sub(r"\$\{\{(.*?)\}\}", fill, str(text))
