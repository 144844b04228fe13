"""git forge push: verify, then push."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from forge.commands.push_options import PASSED, PassingOn, is_dry_run

if TYPE_CHECKING:
    from forge.git.running import Repository


@click.command("push", cls=PassingOn)
@click.argument("remote", required=False)
@click.argument("branch", required=False)
@click.option("--scores/--no-scores", default=True, help="Compute the recorded scores again before pushing.")
def command(remote: str | None, branch: str | None, scores: bool) -> None:
    """Verify the current (or named) branch and push it, to where git itself would or to REMOTE.

    A branch of which nobody has said where it goes gets an upstream. Nothing is pushed if it does not verify.
    """
    import subprocess

    from forge.errors import ForgeError
    from forge.git.lfs import push_objects
    from forge.git.places import resolve
    from forge.git.pushing import find_push
    from forge.git.running import environment, find_repository
    from forge.operations.verifying import problems_of
    from forge.recipe.layout import FOLDERS
    from forge.repo.settings_file import load_settings

    repo = find_repository()
    load_settings(repo.top)  # says so where there is no model
    push = find_push(repo, remote, branch)
    commit = resolve(repo, push.ref)
    _warn_of_uncommitted(repo, commit)
    passed = click.get_current_context().meta[PASSED]
    problems = problems_of(repo, commit, scores=scores)
    if problems:
        raise ForgeError(
            f"{push.branch} does not verify, so it was not pushed:\n  " + "\n  ".join(problems),
            hint="see git forge verify",
        )
    # The hook does this too, where hooks are not turned off.
    if not is_dry_run(passed):
        push_objects(repo, push.remote, push.remote, [f"{push.ref} {commit} {push.ref} {'0' * len(commit)}"], FOLDERS)
    # git speaks to the terminal itself: its progress, its questions for a password, its hooks' words.
    done = subprocess.run(["git", "push", *passed, *push.words], cwd=repo.top, env=environment(repo), check=False)
    if done.returncode:
        raise ForgeError(
            f"git push to {push.remote} failed; {push.branch} itself verifies", hint="read what git said above"
        )


def _warn_of_uncommitted(repo: Repository, commit: str) -> None:
    """Say what stays behind where HEAD is pushed. git pushes commits, whatever lies in the work tree: so is it here."""
    from forge.console import say
    from forge.git.running import git_text
    from forge.recipe.layout import path_of
    from forge.repo.uncommitted import uncommitted_contributions

    if git_text(repo, "rev-parse", "--verify", "--quiet", "HEAD", check=False) != commit:
        return
    for name in uncommitted_contributions(repo, commit):
        say(f"warning: {path_of(name)} is not pushed as it is here: it is not committed (git forge commit)", err=True)
