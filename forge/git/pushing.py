"""Where `git push` would go from here: git is asked, and where it knows, nothing is added to what it is told."""

from __future__ import annotations

from dataclasses import dataclass

from forge.errors import ForgeError
from forge.git.quiet import SETTINGS
from forge.git.running import Repository, quiet_environment
from forge.text import printable

_BRANCHES = "refs/heads/"
# The fields of a branch that say where it goes: what it follows, and where it is pushed if somewhere else.
_SET = "%(upstream:remoteref)%00%(push:remotename)"
# With these, git pushes without an upstream, or refuses because it was told to.
_WITHOUT_UPSTREAM = ("matching", "nothing")


@dataclass(frozen=True)
class Push:
    """A push of one branch: its name and full name, the remote that git takes, and what git is told after "push"."""

    branch: str
    ref: str
    remote: str
    words: tuple[str, ...]


def find_push(repo: Repository, remote: str | None, branch: str | None) -> Push:
    """How to push the current (or named) branch to where git itself would, or to `remote`.

    A branch of which nobody has said where it goes is set to follow the place that it is pushed to. Raises ForgeError
    on no branch, without a remote, and for a remote that looks like an option.
    """
    ref = f"{_BRANCHES}{branch}" if branch else _ask(repo, "symbolic-ref", "--quiet", "HEAD")
    if not ref.startswith(_BRANCHES):
        raise ForgeError("HEAD is on no branch", hint="name one: git forge push REMOTE BRANCH")
    upstream, _, elsewhere = _ask(repo, "for-each-ref", "--count=1", f"--format={_SET}", ref).partition("\0")
    remotes = _ask(repo, "remote").splitlines()
    usual = elsewhere or (remotes[0] if len(remotes) == 1 else "origin")
    to = remote or usual
    if to.startswith("-"):  # git and git-lfs would take it for an option
        raise ForgeError(f"{printable(to)} is not a remote", hint="list them with: git remote")
    if not remotes and not remote and not elsewhere:
        raise ForgeError("there is no remote to push to", hint="git remote add origin URL")
    known = (
        upstream != ""
        or to == elsewhere
        or to not in remotes
        or _ask(repo, "config", "--get", "push.default") in _WITHOUT_UPSTREAM
        or _ask(repo, "config", "--get-all", f"remote.{to}.push") != ""
    )
    name = ref.removeprefix(_BRANCHES)
    if not known:
        return Push(name, ref, to, ("--set-upstream", "--", to, ref))
    # The whole name of a branch: it may be a tag's too, or look like an option or a refspec.
    return Push(name, ref, to, ("--", *([to] if remote else []), *([ref] if branch else [])))


def _ask(repo: Repository, *args: str) -> str:
    """What git says, without its last line end; nothing where it says no.

    GitPython runs git here and reads nothing of the repository itself. What starts often does without it: to import it
    takes a tenth of a second.
    """
    from git.cmd import Git

    answer = Git(repo.top).execute(
        ["git", *SETTINGS, *args], env=quiet_environment(repo), with_exceptions=False, stdout_as_string=True
    )
    return str(answer)
