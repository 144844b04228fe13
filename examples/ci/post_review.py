#!/usr/bin/env python3
"""Put the file that `git forge review --markdown` wrote into one comment of a pull or merge request.

    post_review.py review.md

A comment that this wrote before is replaced, so a request has one table, of its last push. Which host, request
and token it is comes from the variables that GitHub Actions and GitLab CI set; see github-actions.yml and
gitlab-ci.yml. The file is from a job that has read what strangers brought: it says what the comment is, and nothing
else, and no more of it is read than a comment holds. Python's standard library alone.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MARKER = "<!-- git forge review -->"
MOST = 65_000  # characters of a comment; GitHub takes 65,536
PAGE = 100  # comments


class PostError(Exception):
    """What to tell whoever reads the job's log."""


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token goes to the host that it is for, and to no other."""

    def redirect_request(self, *args: Any, **keywords: Any) -> None:
        return None


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: post_review.py FILE", file=sys.stderr)
        return 2
    try:
        body = read_review(Path(sys.argv[1]))
        print(to_gitlab(body) if "CI_API_V4_URL" in os.environ else to_github(body))
    except (PostError, KeyError) as error:
        missing = isinstance(error, KeyError)
        print(f"error: {f'{error.args[0]} is not set' if missing else error}", file=sys.stderr)
        return 1
    return 0


def read_review(file: Path) -> str:
    """The text to post, cut where a comment ends. Raises PostError for what `git forge review` did not write."""
    try:
        with file.open("rb") as stream:
            content = stream.read(4 * MOST + 1)  # bytes; UTF-8 has at most four a character
    except OSError as error:
        raise PostError(f"{file}: {error.strerror}") from None
    body = content.decode("utf-8", "replace")
    if not body.startswith(MARKER):
        raise PostError(f"{file} holds no review, so nothing is posted")
    if len(body) > MOST:
        body = body[:MOST].rpartition("\n")[0] + "\n\nThe rest is in the artifact of the job.\n"
    return body


def to_github(body: str) -> str:
    """https://docs.github.com/rest/issues/comments"""
    headers = {"Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}", "Accept": "application/vnd.github+json"}
    api = os.environ.get("GITHUB_API_URL", "https://api.github.com")
    issues = f"{api}/repos/{os.environ['GITHUB_REPOSITORY']}/issues"
    comments = f"{issues}/{int(os.environ['PULL_REQUEST'])}/comments"
    for comment in pages(comments, headers):
        # The job's own token is a bot's; a person may have quoted the table.
        if comment["body"].startswith(MARKER) and comment["user"]["type"] == "Bot":
            call("PATCH", f"{issues}/comments/{comment['id']}", headers, {"body": body})
            return "updated the comment"
    call("POST", comments, headers, {"body": body})
    return "wrote a comment"


def to_gitlab(body: str) -> str:
    """https://docs.gitlab.com/api/notes"""
    headers = {"PRIVATE-TOKEN": os.environ["GITLAB_TOKEN"]}
    api = os.environ["CI_API_V4_URL"]
    # Not CI_PROJECT_ID: a merge request from a fork has its pipeline in the fork.
    project = urllib.parse.quote(os.environ["CI_MERGE_REQUEST_PROJECT_ID"], safe="")
    notes = f"{api}/projects/{project}/merge_requests/{int(os.environ['CI_MERGE_REQUEST_IID'])}/notes"
    own = call("GET", f"{api}/user", headers)["id"]
    for note in pages(notes, headers):
        if note["body"].startswith(MARKER) and note["author"]["id"] == own:
            call("PUT", f"{notes}/{note['id']}", headers, {"body": body})
            return "updated the comment"
    call("POST", notes, headers, {"body": body})
    return "wrote a comment"


def pages(url: str, headers: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Every comment there is, page by page."""
    number = 1
    while True:
        found = call("GET", f"{url}?per_page={PAGE}&page={number}", headers)
        yield from found
        if len(found) < PAGE:
            return
        number += 1


def call(method: str, url: str, headers: dict[str, str], content: object = None) -> Any:
    """The JSON that the host answers with. Raises PostError with its words, never with the token."""
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(
        url, data, {**headers, "Content-Type": "application/json", "User-Agent": "git-forge"}, method=method
    )
    opener = urllib.request.build_opener(NoRedirects)
    where = f"{method} {url.partition('?')[0]}"
    try:
        with opener.open(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(2000).decode("utf-8", "replace")
        raise PostError(f"{where}: HTTP {error.code}: {said}") from None
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        raise PostError(f"{where}: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
