"""The recipes for GitHub Actions and GitLab CI: valid for their hosts, and every script in them run for real."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from living.hosts import BOT, PERSON, TOKEN, Host, Runner, running_host
from sample_models import SampleModel

RECIPES = Path(__file__).parents[2] / "examples" / "ci"
POST = RECIPES / "post_review.py"
MARKER = "<!-- git forge review -->"


def recipe(name: str) -> dict[Any, Any]:
    found = yaml.safe_load((RECIPES / name).read_text())
    assert isinstance(found, dict)
    return found


@pytest.fixture
def host() -> Iterator[Host]:
    with running_host() as found:
        yield found


@pytest.fixture
def variables(host: Host, tmp_path: Path) -> dict[str, str]:
    """What the runners of both hosts set, and a folder for PATH: pip installs nothing, git forge is this one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    python = f'#!/bin/sh\n[ "$2" != pip ] || {{ echo "$@" >>"{tmp_path}/pip"; exit; }}\nexec {sys.executable} "$@"\n'
    # No score is computed here: loading torch is what test_review pays for.
    forge = '#!/bin/sh\n[ "$1" != review ] || { shift; set -- review --no-scores "$@"; }\n'
    forge += (
        f'[ "$1" != verify ] || {{ shift; set -- verify --no-scores "$@"; }}\nexec {sys.executable} -m forge "$@"\n'
    )
    for name, text in (("python", python), ("git-forge", forge)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_API_URL": host.url,
        "GITHUB_REPOSITORY": "clinics/model",
    }


@pytest.fixture
def origin(tmp_path: Path) -> SampleModel:
    """What the host has: main with ada, and on a branch with a name of its own kind bob; the host's script on main."""
    model = SampleModel(tmp_path / "origin")
    for folder in (".github", ".gitlab"):
        model.write(f"{folder}/post_review.py", POST.read_bytes())
    model.add_contribution("ada", {"ada": 1.0})
    model.git("switch", "--quiet", "-c", "$(touch${IFS}pwned)")
    model.add_contribution("bob", {"ada": 0.5, "bob": 0.5})
    return model


@pytest.fixture
def checkout(origin: SampleModel, tmp_path: Path) -> Path:
    place = tmp_path / "checkout"
    subprocess.run(["git", "clone", "-q", str(origin.top), str(place)], check=True)
    subprocess.run(["git", "checkout", "-q", "--detach", "HEAD"], cwd=place, check=True)
    return place


def spoil(origin: SampleModel, checkout: Path) -> str:
    """A commit on the branch that does not verify, fetched and checked out as the host does; its id."""
    item = origin.top / "forge-item.json"
    item.write_text(item.read_text().replace("0.5", "0.9", 1))
    origin.write(".github/post_review.py", b"raise SystemExit('the script of the branch was run')")
    origin.write(".gitlab/post_review.py", b"raise SystemExit('the script of the branch was run')")
    tip = origin.commit("By hand")
    subprocess.run(["git", "fetch", "-q", "origin"], cwd=checkout, check=True)
    subprocess.run(["git", "checkout", "-q", "--detach", tip], cwd=checkout, check=True)
    return tip


@pytest.mark.parametrize(
    ("file", "schema"), [("github-actions.yml", "vendor.github-workflows"), ("gitlab-ci.yml", "vendor.gitlab-ci")]
)
def test_the_hosts_would_take_it(file: str, schema: str) -> None:
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(RECIPES / file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_github(origin: SampleModel, checkout: Path, variables: dict[str, str], host: Host, tmp_path: Path) -> None:
    workflow = recipe("github-actions.yml")
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads `on` as true; the host does not
    runner = Runner(checkout, variables)
    context = {
        "github.event_name": "pull_request",
        "github.base_ref": "main",
        "github.event.pull_request.head.sha": origin.git("rev-parse", "HEAD"),
        "github.event.pull_request.head.repo.full_name": "clinics/model",
        "github.event.pull_request.number": "5",
        "github.repository": "clinics/model",
        "github.token": TOKEN,
    }
    codes = runner.github_job(workflow, "review", context)
    assert codes == {"Install": 0, "Review": 0, "Summary": 0, "Comment": 0}, runner.said
    assert (tmp_path / "pip").read_text() == "-m pip install git-forge\n"
    [text] = host.texts()
    assert text.startswith(MARKER) and "| `bob` | - | 0.500000 |" in text and ": verified" in text
    assert (tmp_path / "summary.md").read_text() == text

    context["github.event.pull_request.head.sha"] = spoil(origin, checkout)
    codes = runner.github_job(workflow, "review", context)
    assert codes == {"Install": 0, "Review": 1, "Summary": 0, "Comment": 0}, runner.said
    [text] = host.texts()  # the same comment
    assert "not ready" in text and "edited by hand" in text

    context["github.event.pull_request.head.repo.full_name"] = "somebody/model"
    assert "Comment" not in runner.github_job(workflow, "review", context)

    context["github.event_name"] = "push"
    assert runner.github_job(workflow, "verify", context) == {"Install": 0, "Verify": 1}
    subprocess.run(["git", "checkout", "-q", "origin/main"], cwd=checkout, check=True)
    assert runner.github_job(workflow, "verify", context) == {"Install": 0, "Verify": 0}
    assert not list(tmp_path.rglob("pwned"))


def test_gitlab(origin: SampleModel, checkout: Path, variables: dict[str, str], host: Host, tmp_path: Path) -> None:
    pipeline = recipe("gitlab-ci.yml")
    (tmp_path / "builds").mkdir()
    variables |= {
        "CI_API_V4_URL": host.url,
        "CI_PROJECT_ID": "clinics/model",
        "CI_MERGE_REQUEST_IID": "5",
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
        "CI_COMMIT_SHA": origin.git("rev-parse", "HEAD"),
        "CI_BUILDS_DIR": str(tmp_path / "builds"),
        "GITLAB_TOKEN": "",
    }
    # The runner checks out one commit and has no other branch.
    for branch in ("main", "HEAD"):
        subprocess.run(["git", "update-ref", "-d", f"refs/remotes/origin/{branch}"], cwd=checkout, check=True)
    runner = Runner(checkout, variables)
    assert runner.gitlab_job(pipeline, "review") == (0, 0), runner.said
    assert "no GITLAB_TOKEN, so no comment" in runner.said and host.requests == []
    review = (checkout / "review.md").read_text()
    assert "| `bob` | - | 0.500000 |" in review
    assert pipeline["review"]["artifacts"]["paths"] == ["review.md"]

    variables["GITLAB_TOKEN"] = TOKEN
    host.comments = {1: (PERSON, review), **dict.fromkeys(range(2, 130), (PERSON, "hm"))}
    assert runner.gitlab_job(pipeline, "review") == (0, 0), runner.said
    assert host.texts() == [review]
    variables["CI_COMMIT_SHA"] = spoil(origin, checkout)
    assert runner.gitlab_job(pipeline, "review") == (1, 0), runner.said
    [text] = host.texts()  # on the second page, and not the one that a person has quoted
    assert "not ready" in text
    assert host.comments[1] == (PERSON, review)
    assert runner.gitlab_job(pipeline, "verify")[0] == 1
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("code", [302, 403, 500])
def test_a_host_that_says_no(host: Host, tmp_path: Path, code: int) -> None:
    host.broken = code
    file = tmp_path / "review.md"
    file.write_text(MARKER)
    variables = {
        "GITHUB_API_URL": host.url,
        "GITHUB_REPOSITORY": "clinics/model",
        "PULL_REQUEST": "5",
        "GITHUB_TOKEN": TOKEN,
    }
    done = post(file, variables)
    assert done.returncode == 1 and f"HTTP {code}" in done.stderr
    assert TOKEN not in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert len(host.requests) == 1 and host.comments == {}


def test_what_is_no_review_or_too_long(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "review.md"
    file.write_text("")
    done = post(file, {})
    assert done.returncode == 1 and "holds no review" in done.stderr
    file.write_text(MARKER + "\nline" * 20_000)
    done = post(file, {"GITHUB_API_URL": host.url, "GITHUB_REPOSITORY": "clinics/model", "GITHUB_TOKEN": TOKEN})
    assert done.returncode == 1 and done.stderr == "error: PULL_REQUEST is not set\n"
    done = post(
        file,
        {
            "GITHUB_API_URL": host.url,
            "GITHUB_REPOSITORY": "clinics/model",
            "GITHUB_TOKEN": TOKEN,
            "PULL_REQUEST": "5",
        },
    )
    assert (done.returncode, done.stdout) == (0, "wrote a comment\n")
    [(author, text)] = host.comments.values()
    assert author == BOT and len(text) < 65_536 and text.endswith("line\n\nThe rest is in the log of the job.\n")


def post(file: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("CI_", "GIT"))}
    return subprocess.run(
        [sys.executable, str(POST), str(file)], env=known | variables, capture_output=True, text=True, check=False
    )
