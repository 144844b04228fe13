"""git forge push: verify, then push."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from forge.commands.push_options import PASSED, PassingOn, is_dry_run

if TYPE_CHECKING:
    from forge.repo.git import Repository


@click.command("push", cls=PassingOn)
@click.argument("remote", required=False)
@click.argument("branch", required=False)
@click.option("--scores/--no-scores", default=True, help="Compute the recorded scores again before pushing.")
def command(remote: str | None, branch: str | None, scores: bool) -> None:
    """Verify the current (or named) branch and push it, to where git itself would or to REMOTE.

    A branch without an upstream gets one. Nothing is pushed if anything does not verify.
    """
    import subprocess

    from git import Repo

    from forge.errors import ForgeError
    from forge.operations.verifying import problems_of
    from forge.repo.git import environment, find_repository
    from forge.repo.lfs import push_objects
    from forge.repo.places import resolve
    from forge.repo.settings import load_settings
    from forge.text import printable

    repo = find_repository()
    load_settings(repo.top)  # says so where there is no model
    known = Repo(repo.top)
    if branch is None and known.head.is_detached:
        raise ForgeError("HEAD is on no branch", hint="name one: git forge push REMOTE BRANCH")
    name = branch or known.active_branch.name
    commit = resolve(repo, f"refs/heads/{name}")
    _warn_of_uncommitted(repo, commit)
    passed = click.get_current_context().meta[PASSED]
    upstream = known.heads[name].tracking_branch()
    remotes = [each.name for each in known.remotes]
    if remote is None:
        usual = upstream.remote_name if upstream else "origin"
        remote = usual if usual in remotes or len(remotes) != 1 else remotes[0]
    if remote.startswith("-"):  # git and git-lfs would take it for an option
        raise ForgeError(f"{printable(remote)} is not a remote", hint="list them with: git remote")
    if not remotes:
        raise ForgeError("there is no remote to push to", hint="git remote add origin URL")
    problems = problems_of(repo, commit, scores=scores)
    if problems:
        raise ForgeError(
            f"{name} does not verify, so it was not pushed:\n  " + "\n  ".join(problems), hint="see git forge verify"
        )
    # The hook does this too, where hooks are not turned off.
    if not is_dry_run(passed):
        push_objects(repo, remote, remote, [f"refs/heads/{name} {commit} refs/heads/{name} {'0' * len(commit)}"])
    # git speaks to the terminal itself: its progress, its questions for a password, its hooks' words.
    # The whole name of the branch: it may be a tag's too, or look like an option or a refspec.
    options = [*([] if upstream else ["--set-upstream"]), *passed]
    arguments = ["git", "push", *options, "--", remote, f"refs/heads/{name}"]
    done = subprocess.run(arguments, cwd=repo.top, env=environment(repo), check=False)
    if done.returncode:
        raise ForgeError(f"git push to {remote} failed; {name} itself verifies", hint="read what git said above")


def _warn_of_uncommitted(repo: Repository, commit: str) -> None:
    """Say what stays behind where HEAD is pushed. git pushes commits, whatever lies in the work tree: so is it here."""
    from forge.console import say
    from forge.repo.contribution import path_of
    from forge.repo.git import git_text
    from forge.repo.uncommitted import uncommitted_contributions

    if git_text(repo, "rev-parse", "--verify", "--quiet", "HEAD", check=False) != commit:
        return
    for name in uncommitted_contributions(repo, commit):
        say(f"warning: {path_of(name)} is not pushed as it is here: it is not committed (git forge commit)", err=True)
