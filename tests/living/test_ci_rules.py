"""The recipes for GitHub Actions and GitLab CI as texts: valid for their hosts, and with few rights."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from living.runners import RECIPES, flat, recipe


def jobs(pipeline: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of GitLab's, of which anchors are not."""
    return [pipeline[name] for name in ("verify", "review", "comment")]


@pytest.mark.parametrize(
    ("file", "schema"), [("github-actions.yml", "vendor.github-workflows"), ("gitlab-ci.yml", "vendor.gitlab-ci")]
)
def test_the_hosts_would_take_it(file: str, schema: str) -> None:
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(RECIPES / file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_auditor_of_workflows_finds_nothing() -> None:
    program = Path(sys.executable).with_name("zizmor")
    if not program.exists():
        pytest.skip("needs zizmor (pip install -e '.[dev]')")
    command = [str(program), "--offline", "--no-config", "--no-progress", str(RECIPES / "github-actions.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actions_are_pinned_and_rights_are_few() -> None:
    lines = [line for line in (RECIPES / "github-actions.yml").read_text().splitlines() if "uses:" in line]
    assert lines
    for line in lines:
        assert re.fullmatch(r" +- uses: actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
    workflow = recipe("github-actions.yml")
    # YAML 1.1 reads `on` as true; the host does not.
    assert workflow[True] == {"push": {"branches": ["main"]}, "pull_request_target": {"branches": ["main"]}}
    assert workflow["permissions"] == {}
    assert {name: job["permissions"] for name, job in workflow["jobs"].items()} == {
        "verify": {"contents": "read"},
        "review": {"contents": "read"},
        "comment": {"contents": "read", "pull-requests": "write"},
    }


def test_who_may_write_does_not_see_the_head() -> None:
    workflow, pipeline = recipe("github-actions.yml"), recipe("gitlab-ci.yml")
    for name, job in workflow["jobs"].items():
        may_write = "write" in job["permissions"].values()
        assert may_write == (name == "comment")
        assert bool(re.search(r"\bhead\b|head_id|refs/pull|forge review", str(job), re.I)) == (name == "review")
        checkouts = [step["with"] for step in job["steps"] if "actions/checkout@" in step.get("uses", "")]
        assert [given["persist-credentials"] for given in checkouts] == [False]
        assert {given.get("ref", "refs/heads/${{ github.base_ref }}") for given in checkouts} == {
            "refs/heads/${{ github.base_ref }}"
        }
    for name, job in zip(("verify", "review", "comment"), jobs(pipeline), strict=True):
        script = "\n".join([*flat(job["before_script"]), *flat(job["script"])])
        assert ("GITLAB_TOKEN" in script) == ("environment" in job) == (name == "comment")
        assert bool(re.search(r"head_id|refs/merge-requests|forge review", script)) == (name == "review")
    # Whose script posts is a question of who may push to the branch that it comes from.
    for name in ("review", "comment"):
        [rule] = pipeline[name]["rules"]
        assert "$CI_MERGE_REQUEST_TARGET_BRANCH_NAME == $CI_DEFAULT_BRANCH" in rule["if"]


def test_no_script_holds_an_expression_and_git_forge_has_no_default() -> None:
    workflow, pipeline = recipe("github-actions.yml"), recipe("gitlab-ci.yml")
    scripts = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert len(scripts) == 7 and not any("${{" in script for script in scripts)
    assert workflow["env"]["GIT_FORGE"] == "${{ vars.GIT_FORGE }}"
    assert "GIT_FORGE" not in str([pipeline["variables"], *(job.get("variables") for job in jobs(pipeline))])


def test_every_python_is_isolated() -> None:
    """Each alone would do: no folder of a stranger's to stand in, and -I. What is started later has PYTHONSAFEPATH."""
    workflow, pipeline = recipe("github-actions.yml"), recipe("gitlab-ci.yml")
    steps = [step for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    scripts = [step["run"] for step in steps]
    for job in jobs(pipeline):
        first, *others = [*flat(job["before_script"]), *flat(job["script"])][0:2]
        assert (first, others) == ('work="$(mktemp -d)"', ['cd "$work"'])
        scripts += [*flat(job["before_script"]), *flat(job["script"])]
    options = [option for script in scripts for option in re.findall(r"\bpython3?\"? (\S+)", script)]
    assert len(options) == 14 and set(options) == {"-I"}
    assert workflow["env"]["PYTHONSAFEPATH"] == pipeline["variables"]["PYTHONSAFEPATH"] == "1"
    inside = {step["name"] for step in steps if step.get("working-directory") != "${{ runner.temp }}"}
    assert inside == {"Verify", "Review"}  # where git forge has to be


def test_the_pushes_to_one_pull_request_do_not_stop_those_to_another() -> None:
    # On pull_request_target github.ref is the branch that is merged into.
    group = recipe("github-actions.yml")["concurrency"]["group"]
    assert group == "model-${{ github.event.pull_request.number || github.ref }}"
