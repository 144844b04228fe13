"""The recipes for GitHub Actions and GitLab CI: every script in them run for real.

The branch that wants to be merged and the one that it is merged into are both full of files that leave a mark when
they are run. The recipes make a real environment and start a real pip; what it installs stands for git forge.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from living.hosts import BASIC, BOT, PERSON, TOKEN, Host, running_host
from living.runners import MARKER, RECIPES, GitHubRunner, GitLabRunner, Job, commands, recipe
from living.traps import MODULES, set_traps
from sample_models import SampleModel

HOSTILE = "::error title=review::said of the model"

# Stands for git forge. No score is computed: loading torch is what test_review pays for.
FORGE = f"""\
import os, sys
verb, *rest = sys.argv[1:]
print({HOSTILE!r}, file=sys.stderr, flush=True)
if "CRASH" in os.environ:
    sys.exit(128)
words = [{sys.executable!r}, "-P", "-m", "forge", verb, "--no-scores", *rest]
os.execv(words[0], words)
"""


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `python -I -m venv` makes, with its pip: it takes seconds, so it is made once and copied."""
    place = tmp_path_factory.mktemp("python") / "venv"
    subprocess.run([sys.executable, "-I", "-m", "venv", str(place)], check=True)
    return place


@pytest.fixture(scope="session")
def git_forge(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A line of a requirements file: a wheel with FORGE in it, pinned by its hash."""
    wheel = tmp_path_factory.mktemp("wheel") / "git_forge-0.1.0-py3-none-any.whl"
    about = "git_forge-0.1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("forge/__init__.py", "")
        archive.writestr("forge/__main__.py", FORGE)
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: git-forge\nVersion: 0.1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return f"git-forge @ {wheel.as_uri()}#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}"


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Where a trap leaves its name."""
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


@pytest.fixture
def origin(tmp_path: Path, marks: Path) -> SampleModel:
    """What the host has: main with ada, and on a branch with a name of its own kind bob; the host's script on main.

    Traps are everywhere. The branch is pull request and merge request number 5.
    """
    model = SampleModel(tmp_path / "origin")
    set_traps(model.top, marks)
    for folder in (".github", ".gitlab"):
        model.write(f"{folder}/post_review.py", (RECIPES / "post_review.py").read_bytes())
    model.add_contribution("ada", {"ada": 1.0})
    model.git("switch", "--quiet", "-c", "$(touch${IFS}pwned)")
    for folder in (".github", ".gitlab"):
        model.write(f"{folder}/post_review.py", f"open({str(marks / folder)!r}, 'w').close()\n".encode())
    model.add_contribution("bob", {"ada": 0.5, "bob": 0.5})
    push(model)
    return model


@pytest.fixture
def host(origin: SampleModel) -> Iterator[Host]:
    with running_host(origin.top / ".git") as found:
        yield found


@pytest.fixture
def variables(environment: Path, tmp_path: Path) -> dict[str, str]:
    """For every job: a folder for PATH with the runner's Python. What strangers chose is in no other variable."""
    folder = tmp_path / "bin"
    folder.mkdir()
    copies = f'[ "$*" != "-I -m venv venv" ] || exec cp -a "{environment}" venv'
    for name in ("python", "python3"):
        (folder / name).write_text(f'#!/bin/sh\n{copies}\nexec {sys.executable} "$@"\n')
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.fixture
def on_github(origin: SampleModel, host: Host, variables: dict[str, str], tmp_path: Path) -> GitHubRunner:
    variables |= {
        "GITHUB_SERVER_URL": host.url,
        "GITHUB_API_URL": host.url,
        "GITHUB_REPOSITORY": "clinics/model",
        "GITHUB_SHA": origin.git("rev-parse", "main"),
    }
    return GitHubRunner(host, tmp_path, variables, origin.top)


@pytest.fixture
def on_gitlab(
    origin: SampleModel, host: Host, variables: dict[str, str], git_forge: str, tmp_path: Path
) -> GitLabRunner:
    """In a fork: the host's script speaks of the project that is merged into all the same."""
    variables |= {
        "GIT_FORGE": git_forge,
        "CI_SERVER_URL": host.url,
        "CI_API_V4_URL": host.url,
        "CI_JOB_TOKEN": TOKEN,
        "CI_PROJECT_ID": "somebody/model",
        "CI_PROJECT_URL": f"{host.url}/clinics/model",
        "CI_DEFAULT_BRANCH": "main",
        "CI_COMMIT_BRANCH": "main",
        "CI_COMMIT_SHA": origin.git("rev-parse", "HEAD"),
        "CI_MERGE_REQUEST_IID": "5",
        "CI_MERGE_REQUEST_PROJECT_ID": "clinics/model",
        "CI_MERGE_REQUEST_PROJECT_URL": f"{host.url}/clinics/model",
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    }
    return GitLabRunner(tmp_path, variables, origin.top)


@pytest.fixture
def context(origin: SampleModel, git_forge: str) -> dict[str, str]:
    """What GitHub says of the pull request in its expressions."""
    return {
        "github.event_name": "pull_request_target",
        "github.base_ref": "main",
        "github.event.pull_request.head.sha": origin.git("rev-parse", "HEAD"),
        "github.event.pull_request.number": "5",
        "github.token": TOKEN,
        "vars.GIT_FORGE": git_forge,
    }


def push(model: SampleModel) -> str:
    """Let the host's refs of request 5 name the tip of the branch; its id."""
    tip = model.git("rev-parse", "HEAD")
    for ref in ("refs/pull/5/head", "refs/merge-requests/5/head"):
        model.git("update-ref", ref, tip)
    return tip


def spoil(model: SampleModel) -> str:
    """A commit on the branch that does not verify; its id."""
    item = model.top / "forge-item.json"
    item.write_text(item.read_text().replace("0.5", "0.9", 1))
    model.commit("By hand")
    return push(model)


def reviewed(runner: GitHubRunner, context: dict[str, str]) -> tuple[Job, Job | None]:
    """The jobs review and comment of a pull request."""
    workflow = recipe("github-actions.yml")
    review = runner.run(workflow, "review", context)
    assert review is not None
    assert runner.run(workflow, "verify", context) is None
    artifact = {"needs.review.outputs.artifact": review.outputs["artifact"]}
    return review, runner.run(workflow, "comment", context | artifact)


def ran(marks: Path) -> set[str]:
    """The traps that something has run."""
    return {path.name for path in marks.iterdir()}


def assert_no_token_is_left(*jobs: Job) -> None:
    for folder in (folder for job in jobs for folder in job.folders):
        for file in folder.rglob("*"):
            if file.is_file() and not file.is_symlink():
                content = file.read_bytes()
                assert not any(secret.encode() in content for secret in (TOKEN, *BASIC)), file


def test_the_traps_work(origin: SampleModel, marks: Path) -> None:
    def python(*words: str) -> None:
        subprocess.run([sys.executable, *words], cwd=origin.top, capture_output=True, check=False)

    for module in ("pip", "venv", "forge"):
        python("-m", module)
        assert (marks / f"{module}+__init__.py").exists()
    python(".github/post_review.py")
    for module in MODULES:
        if "/" not in module:
            python("-c", f"import importlib, sys; sys.modules.pop({module[:-3]!r}, 0); import {module[:-3]}")
            assert (marks / module).exists(), module
    subprocess.run(["./git-forge"], cwd=origin.top, check=True)
    assert (marks / "git-forge").exists() and (marks / ".github").exists()


def test_github(
    origin: SampleModel, on_github: GitHubRunner, context: dict[str, str], host: Host, marks: Path, tmp_path: Path
) -> None:
    base, head = origin.git("rev-parse", "main"), origin.git("rev-parse", "HEAD")
    review, comment = reviewed(on_github, context)
    assert ran(marks) == set()
    assert review.codes == {"Install": 0, "Fetch": 0, "Review": 0}, review.said
    assert comment is not None and comment.codes == {"Comment": 0}, comment
    [text] = host.texts()
    assert text.startswith(f"{MARKER}\n### git forge: `{head}` into `{base}`: consistent, not made again")
    assert "| `bob` | - | 0.500000 |" in text
    workspace, temp = review.folders
    assert (temp / "summary").read_text() == text
    assert not (workspace / "contributions" / "bob").exists()  # an object, and no file
    assert not (comment.folders[0] / "contributions").exists()
    assert HOSTILE in review.said and commands(review.said) == []
    assert_no_token_is_left(review, comment)

    context["github.event.pull_request.head.sha"] = spoil(origin)
    review, comment = reviewed(on_github, context)
    assert ran(marks) == set()
    assert review.codes == {"Install": 0, "Fetch": 0, "Review": 1}, review.said
    assert comment is not None and comment.codes == {"Comment": 0}, comment
    [text] = host.texts()  # the same comment
    assert "not ready" in text and "edited by hand" in text
    assert not list(tmp_path.rglob("pwned"))


def test_github_after_a_push(
    origin: SampleModel, on_github: GitHubRunner, context: dict[str, str], host: Host, marks: Path
) -> None:
    workflow = recipe("github-actions.yml")
    context["github.event_name"] = "push"
    verify = on_github.run(workflow, "verify", context)
    assert ran(marks) == set()
    assert verify is not None and verify.codes == {"Install": 0, "Fetch": 0, "Verify": 0}, verify
    assert HOSTILE in verify.said and commands(verify.said) == []
    assert on_github.run(workflow, "review", context) is None
    assert on_github.run(workflow, "comment", context | {"needs.review.outputs.artifact": ""}) is None

    spoiled = spoil(origin)
    origin.git("branch", "--force", "main", spoiled)
    on_github.variables = {**on_github.variables, "GITHUB_SHA": spoiled}
    again = on_github.run(workflow, "verify", context)
    assert ran(marks) == set()
    assert again is not None and again.codes == {"Install": 0, "Fetch": 0, "Verify": 1}, again
    assert "edited by hand" in again.said
    assert_no_token_is_left(verify, again)
    assert host.requests == []


def test_github_where_nothing_can_be_reviewed(
    origin: SampleModel, on_github: GitHubRunner, context: dict[str, str], host: Host
) -> None:
    review, comment = reviewed(on_github, context | {"vars.GIT_FORGE": ""})
    assert review.codes == {"Install": 1} and comment is None
    [said] = commands(review.said)
    assert said.startswith("::error::The variable GIT_FORGE is not set.")

    review, comment = reviewed(on_github, context | {"github.event.pull_request.head.sha": "1" * 40})
    assert review.codes == {"Install": 0, "Fetch": 1} and comment is None
    assert "has moved on" in review.said

    # An earlier push was reviewed, and its table must not stay.
    host.comments[1] = (BOT, f"{MARKER} verified")
    on_github.variables = {**on_github.variables, "CRASH": "1"}
    review, comment = reviewed(on_github, context)
    assert review.codes == {"Install": 0, "Fetch": 0, "Review": 128}, review.said
    assert comment is not None and comment.codes == {"Comment": 0}, comment
    head = origin.git("rev-parse", "HEAD")
    assert host.texts() == [
        f"{MARKER}\n### git forge: `{head}` could not be reviewed\n\nThe log of the job says why.\n"
    ]


def test_gitlab(
    origin: SampleModel, on_gitlab: GitLabRunner, host: Host, variables: dict[str, str], marks: Path, tmp_path: Path
) -> None:
    pipeline = recipe("gitlab-ci.yml")
    base, head = origin.git("rev-parse", "main"), origin.git("rev-parse", "HEAD")
    review = on_gitlab.run(pipeline, "review")
    assert ran(marks) == set()
    assert review.codes == {"review": 0}, review.said
    comment = on_gitlab.run(pipeline, "comment")
    assert comment.codes == {"comment": 0}
    assert "no GITLAB_TOKEN, so no comment" in comment.said and host.requests == []
    table = on_gitlab.artifacts["review.md"].decode()
    assert table.startswith(f"{MARKER}\n### git forge: `{head}` into `{base}`: consistent, not made again")
    assert "| `bob` | - | 0.500000 |" in table
    [clone] = review.folders[1].glob("*/model")
    assert not (clone / "contributions" / "bob").exists()  # an object, and no file

    on_gitlab.secrets = {"git-forge-comment": {"GITLAB_TOKEN": TOKEN}}
    host.comments = {1: (PERSON, table), **dict.fromkeys(range(2, 130), (PERSON, "hm"))}
    comment = on_gitlab.run(pipeline, "comment")
    assert ran(marks) == set()
    assert comment.codes == {"comment": 0}, comment.said
    assert host.texts() == [table]
    assert_no_token_is_left(review, comment)

    variables["CI_COMMIT_SHA"] = spoil(origin)
    review = on_gitlab.run(pipeline, "review")
    assert ran(marks) == set()
    assert review.codes == {"review": 1}, review.said
    assert on_gitlab.run(pipeline, "comment").codes == {"comment": 0}
    [text] = host.texts()  # on the second page, and not the one that a person has quoted
    assert "not ready" in text
    assert host.comments[1] == (PERSON, table)
    assert not list(tmp_path.rglob("pwned"))


def test_gitlab_after_a_push(
    origin: SampleModel, on_gitlab: GitLabRunner, variables: dict[str, str], marks: Path
) -> None:
    pipeline = recipe("gitlab-ci.yml")
    variables["CI_COMMIT_SHA"] = origin.git("rev-parse", "main")
    verify = on_gitlab.run(pipeline, "verify")
    assert ran(marks) == set()
    assert verify.codes == {"verify": 0}, verify.said
    assert_no_token_is_left(verify)
    variables["CI_COMMIT_SHA"] = spoil(origin)
    origin.git("branch", "--force", "main", variables["CI_COMMIT_SHA"])
    verify = on_gitlab.run(pipeline, "verify")
    assert ran(marks) == set()
    assert verify.codes == {"verify": 1} and "edited by hand" in verify.said


def test_gitlab_where_nothing_can_be_reviewed(
    origin: SampleModel, on_gitlab: GitLabRunner, host: Host, variables: dict[str, str], git_forge: str
) -> None:
    pipeline = recipe("gitlab-ci.yml")
    on_gitlab.secrets = {"git-forge-comment": {"GITLAB_TOKEN": TOKEN}}
    del variables["GIT_FORGE"]
    for name in ("verify", "review"):
        job = on_gitlab.run(pipeline, name)
        assert job.codes == {name: 1} and job.said.startswith("error: the variable GIT_FORGE is not set")
    comment = on_gitlab.run(pipeline, "comment")
    assert comment.codes == {"comment": 1} and "review.md: No such file" in comment.said
    assert host.comments == {}

    variables |= {"GIT_FORGE": git_forge, "CRASH": "1"}
    assert on_gitlab.run(pipeline, "review").codes == {"review": 128}
    assert on_gitlab.run(pipeline, "comment").codes == {"comment": 0}
    head = origin.git("rev-parse", "HEAD")
    assert host.texts() == [
        f"{MARKER}\n### git forge: `{head}` could not be reviewed\n\nThe log of the job says why.\n"
    ]
