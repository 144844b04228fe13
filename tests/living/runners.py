"""What the runners of GitHub Actions and GitLab CI do with a recipe, as far as it matters here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from living.hosts import BASIC, Host

RECIPES = Path(__file__).parents[2] / "examples" / "ci"
MARKER = "<!-- git forge review -->"  # the first line of a review, as its readers know it
# Names of steps that call an action of GitHub's; what else a recipe may use is not known here.
ACTION = re.compile(r"actions/(?P<name>[\w-]+)@(?P<commit>[0-9a-f]{40})")
EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}")


def recipe(name: str) -> dict[Any, Any]:
    """One of the recipes that ship, as its host reads it."""
    found = yaml.safe_load((RECIPES / name).read_text())
    assert isinstance(found, dict)
    return found


@dataclass
class Job:
    """What came of a job. codes: the exit code of every script that was run, by the name of its step.

    said: all that it printed. folders: what is its own and left behind.
    """

    folders: tuple[Path, ...]
    codes: dict[str, int] = field(default_factory=dict)
    said: str = ""
    outputs: dict[str, str] = field(default_factory=dict)


@dataclass
class GitHubRunner:
    """Runs jobs of a workflow. `left`: a folder whose content lies in every job's workspace beforehand.

    variables: what the host sets. artifacts: folders of what was uploaded, by id.
    """

    host: Host
    place: Path
    variables: Mapping[str, str]
    left: Path
    artifacts: dict[str, Path] = field(default_factory=dict)
    jobs: int = 0

    def run(self, workflow: Mapping[str, Any], name: str, context: Mapping[str, str]) -> Job | None:
        """None for a job that is not to be run."""
        job = workflow["jobs"][name]
        if not holds(job["if"], context):
            return None
        self.jobs += 1
        workspace, temp = (self.place / f"{kind}-{self.jobs}" for kind in ("workspace", "temp"))
        shutil.copytree(self.left, workspace, symlinks=True)
        temp.mkdir()
        found = dict(context) | {"runner.temp": str(temp), "github.workspace": str(workspace)}
        done = Job((workspace, temp))
        for step in job["steps"]:
            wanted = str(step.get("if", ""))
            if any(done.codes.values()) and "cancelled()" not in wanted:
                continue
            if wanted and not holds(wanted, found):
                continue
            if "uses" in step:
                given = {key: expanded(value, found) for key, value in step.get("with", {}).items()}
                for key, value in self.act(step["uses"], given, workspace).items():
                    found[f"steps.{step['id']}.outputs.{key}"] = value
                continue
            places = {
                "GITHUB_WORKSPACE": str(workspace),
                "RUNNER_TEMP": str(temp),
                "GITHUB_STEP_SUMMARY": str(temp / "summary"),
            }
            for part in (workflow, job, step):
                places |= {key: expanded(value, found) for key, value in part.get("env", {}).items()}
            self.run_script(done, step, workflow["defaults"]["run"]["shell"], found, places)
        done.outputs = {key: expanded(value, found, missing="") for key, value in job.get("outputs", {}).items()}
        return done

    def run_script(
        self, done: Job, step: Mapping[str, Any], shell: str, context: Mapping[str, str], places: Mapping[str, str]
    ) -> None:
        assert shell == "bash"
        script = done.folders[1] / "script.sh"
        script.write_text(step["run"])
        command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)]
        folder = expanded(step.get("working-directory", context["github.workspace"]), context)
        code, said = run(command, Path(folder), self.variables | places)
        done.codes[step["name"]] = code
        done.said += said

    def act(self, uses: str, given: Mapping[str, str], workspace: Path) -> dict[str, str]:
        """Do what an action does; its outputs."""
        action = ACTION.fullmatch(uses)
        assert action is not None, uses
        if action["name"] == "setup-python":
            return {}  # the test puts one on PATH
        if action["name"] == "checkout":
            self.check_out(given, workspace)
            return {}
        if action["name"] == "upload-artifact":
            file = Path(given["path"])
            if not file.exists() and given["if-no-files-found"] == "ignore":
                return {}
            number = str(len(self.artifacts) + 1)
            self.artifacts[number] = self.place / f"artifact-{number}"
            self.artifacts[number].mkdir()
            shutil.copy(file, self.artifacts[number])
            return {"artifact-id": number}
        assert action["name"] == "download-artifact"
        shutil.copytree(self.artifacts[given["artifact-ids"]], given["path"])
        return {}

    def check_out(self, given: Mapping[str, str], workspace: Path) -> None:
        """With all of what lay there gone, and the token in no file, as the input asks for."""
        assert given["persist-credentials"] == "False"
        shutil.rmtree(workspace)
        git("init", "--quiet", str(workspace))
        git("remote", "add", "origin", f"{self.host.url}/clinics/model", folder=workspace)
        depth = () if given.get("fetch-depth") == "0" else ("--depth=1",)
        refs = "+refs/heads/*:refs/remotes/origin/*"
        git(*authorized(), "fetch", "--quiet", *depth, "origin", refs, folder=workspace)
        if pattern := given.get("sparse-checkout"):
            assert given["sparse-checkout-cone-mode"] == "False"
            git("sparse-checkout", "set", "--no-cone", pattern, folder=workspace)
        ref = given.get("ref", "refs/heads/main")  # of a push to main
        branch = ref.removeprefix("refs/heads/")
        assert branch != ref, f"{ref}: only branches of the repository itself"
        git("checkout", "--quiet", "-B", branch, f"refs/remotes/origin/{branch}", folder=workspace)


@dataclass
class GitLabRunner:
    """Runs jobs of a pipeline. `left`: a folder whose content lies in the project's folder beforehand.

    variables: what the host sets. secrets: those of one environment, by its name. artifacts: their content by path.
    """

    place: Path
    variables: Mapping[str, str]
    left: Path
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    jobs: int = 0

    def run(self, pipeline: Mapping[str, Any], name: str) -> Job:
        """The code is that of the job, under its name."""
        job = pipeline[name]
        self.jobs += 1
        project, temp = (self.place / f"{kind}-{self.jobs}" for kind in ("project", "temp"))
        shutil.copytree(self.left, project, symlinks=True)
        temp.mkdir()
        done = Job((project, temp))
        for needed in job.get("needs", []):
            for path in pipeline[needed]["artifacts"]["paths"]:
                if path in self.artifacts:
                    (project / path).write_bytes(self.artifacts[path])
        own = {"CI_PROJECT_DIR": str(project), "TMPDIR": str(temp)}
        own |= {key: str(value) for key, value in (pipeline["variables"] | job.get("variables", {})).items()}
        assert own["GIT_STRATEGY"] == "none", "or the runner would check out the merge request"
        own |= self.secrets.get(job.get("environment", {}).get("name", ""), {})
        script = "\n".join([*flat(job["before_script"]), *flat(job["script"])])
        done.codes[name], done.said = run(["bash", "-eo", "pipefail", "-c", script], project, self.variables | own)
        for path in job.get("artifacts", {}).get("paths", []):
            self.artifacts.pop(path, None)
            if (project / path).exists():
                self.artifacts[path] = (project / path).read_bytes()
        return done


def run(command: list[str], folder: Path, variables: Mapping[str, str]) -> tuple[int, str]:
    """Exit code, and standard output and error as they come into the log."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def git(*args: str, folder: Path | None = None) -> None:
    subprocess.run(["git", *args], cwd=folder, check=True)


def authorized() -> tuple[str, str]:
    """Options of git for the action that checks out: it has the token for as long as it runs."""
    return "-c", f"http.extraheader=Authorization: Basic {min(BASIC)}"


def flat(script: list[Any]) -> Iterator[str]:
    """The lines of a script of GitLab's, where anchors put lists into lists."""
    for line in script:
        if isinstance(line, list):
            yield from flat(line)
        else:
            yield line


def commands(said: str) -> list[str]:
    """The lines of a log that GitHub's runner would obey; both forms that it knows."""
    found = []
    stop: str | None = None
    for line in said.splitlines():
        if stop is not None:
            stop = None if line == f"::{stop}::" else stop
        elif line.startswith("::stop-commands::"):
            stop = line.removeprefix("::stop-commands::")
            assert len(stop) >= 32, "who guesses it starts the commands again"
        elif line.lstrip().startswith("::") or "##[" in line:
            found.append(line)
    return found


def holds(condition: str, context: Mapping[str, str]) -> bool:
    """Whether an `if` of GitHub's does; nothing here is ever cancelled."""
    whole = EXPRESSION.fullmatch(condition)
    return bool(value_of(whole[1] if whole else condition, context))


def expanded(text: object, context: Mapping[str, str], missing: str | None = None) -> str:
    """`text` with the expressions in it filled in. missing: what a name that is not there stands for."""
    return EXPRESSION.sub(lambda found: value_of(found[1], context, missing), str(text))


def value_of(expression: str, context: Mapping[str, str], missing: str | None = None) -> str:
    """Of names, texts in quotes, !, ==, !=, && and ||; "" is false. Raises KeyError for an unknown name."""
    expression = expression.strip()
    for operator in ("||", "&&"):
        left, found, right = expression.partition(operator)
        if found:
            first = value_of(left, context, missing)
            return first if bool(first) == (operator == "||") else value_of(right, context, missing)
    for operator in ("==", "!="):
        left, found, right = expression.partition(operator)
        if found:
            alike = value_of(left, context, missing) == value_of(right, context, missing)
            return "true" if alike == (operator == "==") else ""
    if expression == "!cancelled()":
        return "true"
    if expression.startswith("'"):
        return expression[1:-1]
    return context[expression] if missing is None else context.get(expression, missing)
