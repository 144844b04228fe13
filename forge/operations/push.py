"""`git forge push`: verify, then push."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from forge.console import Report, silent
from forge.errors import ForgeError
from forge.git.lfs import push_objects
from forge.git.places import resolve
from forge.git.pushing import find_push
from forge.git.running import Repository, environment, git_text
from forge.operations.verify import problems_of
from forge.recipe.layout import FOLDERS, path_of
from forge.repo.settings_file import load_settings
from forge.repo.uncommitted import uncommitted_contributions


def push(
    repo: Repository,
    remote: str | None = None,
    branch: str | None = None,
    *,
    options: Sequence[str] = (),
    dry_run: bool = False,
    scores: bool = True,
    report: Report = silent,
) -> None:
    """Verify a branch, the current one if none is named, and push it to where git itself would or to `remote`.

    options: git push's own, passed on. dry_run: they say that nothing is sent. scores: compute the recorded ones
    again. Raises ForgeError, with nothing pushed, where the branch does not verify, and where git does not push.
    """
    load_settings(repo.top)  # says so where there is no model
    target = find_push(repo, remote, branch)
    commit = resolve(repo, target.ref)
    _warn_of_uncommitted(repo, commit, report)
    problems = problems_of(repo, commit, scores=scores)
    if problems:
        raise ForgeError(
            f"{target.branch} does not verify, so it was not pushed:\n  " + "\n  ".join(problems),
            hint="see git forge verify",
        )
    # The hook does this too, where hooks are not turned off.
    if not dry_run:
        refs = [f"{target.ref} {commit} {target.ref} {'0' * len(commit)}"]
        push_objects(repo, target.remote, target.remote, refs, FOLDERS)
    # git speaks to the terminal itself: its progress, its questions for a password, its hooks' words.
    done = subprocess.run(["git", "push", *options, *target.words], cwd=repo.top, env=environment(repo), check=False)
    if done.returncode:
        raise ForgeError(
            f"git push to {target.remote} failed; {target.branch} itself verifies", hint="read what git said above"
        )


def _warn_of_uncommitted(repo: Repository, commit: str, report: Report) -> None:
    """Say what stays behind where HEAD is pushed. git pushes commits, whatever lies in the work tree: so is it here."""
    if git_text(repo, "rev-parse", "--verify", "--quiet", "HEAD", check=False) != commit:
        return
    for name in uncommitted_contributions(repo, commit):
        report(f"warning: {path_of(name)} is not pushed as it is here: it is not committed (git forge commit)")
