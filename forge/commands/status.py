"""git forge status: contributions and forge item in HEAD, index and work tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from forge.errors import ForgeError

if TYPE_CHECKING:
    from forge.git.lfs_endpoint import NamedEndpoint
    from forge.git.running import Repository
    from forge.recipe.checks import Coefficient
    from forge.recipe.item import ForgeItem
    from forge.repo.contributions import ContributionFiles


@dataclass(frozen=True)
class ContributionStatus:
    """One contribution. index and work_tree: what changed from HEAD to the index, and from there on.

    Both are git's own letters: " " nothing, "A" added, "M" modified, "D" deleted; both "?" untracked, both "U"
    unmerged, or not to be read for another reason that work_tree_problems names.
    """

    name: str
    coefficient: Coefficient | None  # in HEAD's forge item; None where it is not in it
    index: str
    work_tree: str
    missing: tuple[str, ...]  # files that it lacks in the work tree
    folded: bool  # whether the forge item in the work tree names it as it is there


@dataclass(frozen=True)
class Status:
    """All that the verb shows.

    operation: what stands still, by git's verb. unmerged: the model's files in conflict. next_steps: the commands
    that settle that, or that mend a HEAD that was merged but not forged. refused: what `git forge commit` would not
    take of the work tree. pointers: files of the work tree that git-lfs has not put there, and what gets them.
    kept_otherwise: payloads in HEAD that are not kept in `storage`, where .gitattributes sends them. lfsconfig: the
    places of git-lfs that .lfsconfig names in vain.
    """

    branch: str | None
    base: str
    fingerprint: str
    strategy: str
    installed: bool
    contributions: tuple[ContributionStatus, ...]
    head_problems: tuple[str, ...]
    work_tree_problems: tuple[str, ...]
    refused: tuple[str, ...]
    pointers: tuple[str, ...]
    get_pointers: str | None
    storage: str
    kept_otherwise: tuple[str, ...]
    lfsconfig: tuple[NamedEndpoint, ...]
    operation: str | None
    unmerged: tuple[str, ...]
    next_steps: tuple[str, ...]


@click.command("status")
@click.option("-s", "--short", is_flag=True, help="Print what git status --short would: letters, and what has them.")
@click.option("-b", "--branch", is_flag=True, help="Name the branch in the short form, too.")
@click.option("--porcelain", is_flag=True, help="Print one line a fact, for scripts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def command(short: bool, branch: bool, porcelain: bool, as_json: bool) -> None:
    """Show which contributions are in the model, and which are staged or not yet committed.

    The two letters before a contribution are those of git status: index and work tree.
    """
    from dataclasses import asdict

    from forge import console
    from forge.repo.versions import find_model_repository

    found = find_status(find_model_repository())
    if as_json:
        console.emit_json(asdict(found))
    elif porcelain:
        console.say(*_porcelain(found))
    elif short:
        lines = [*([f"## {found.branch or 'HEAD (no branch)'}"] if branch else []), *_short(found)]
        if lines:
            console.say(*lines)
    else:
        _print(found)


def find_status(repo: Repository) -> Status:
    """Look at HEAD, index and work tree; no payload is read."""
    from forge.clone import setup as clone_setup
    from forge.git.in_progress import find_operation, unmerged_files
    from forge.git.lfs import how_to_get
    from forge.git.lfs_endpoint import endpoints_named
    from forge.git.places import INDEX, WORK_TREE
    from forge.git.running import git_succeeds, git_text
    from forge.operations.next_steps import find_next_steps
    from forge.repo.contributions import disagreements, find_all, pointers
    from forge.repo.erased import explained_disagreements
    from forge.repo.items import read_settings_of
    from forge.repo.settings_file import load_settings
    from forge.repo.storage import storage_of
    from forge.repo.uncommitted import refused_in_work_tree
    from forge.repo.unsettled import of_the_model

    has_head = git_succeeds(repo, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    try:
        settings = load_settings(repo.top)
    except ForgeError:
        if not has_head or find_operation(repo) is None:
            raise
        settings = read_settings_of(repo, "HEAD")  # forge.toml is in conflict, which is shown below
    head = find_all(repo, "HEAD") if has_head else ({}, {})
    index, here = find_all(repo, INDEX), find_all(repo, WORK_TREE)
    unreadable = {**index[1], **here[1]}
    head_item = _readable_item(repo, "HEAD") if has_head else None
    work_tree_item = _readable_item(repo, WORK_TREE)
    head_problems = disagreements(repo, "HEAD", head) if has_head else []
    problems = disagreements(repo, WORK_TREE, here)
    if head_problems:  # said of each place in the same words
        head_problems = explained_disagreements(repo, "HEAD")
        problems = explained_disagreements(repo, WORK_TREE) if problems else []
    refused = [error.message for error in unreadable.values()] + refused_in_work_tree(repo, here[0], head[0])
    problems += [problem for problem in refused if problem not in problems]
    if not has_head:
        refused.append("there is no commit yet")
    contributions = tuple(
        _unreadable(name, head_item)
        if name in unreadable
        else _contribution(name, head[0], index[0], here[0], head_item, work_tree_item)
        for name in sorted({*head[0], *index[0], *here[0], *unreadable})
    )
    operation, unmerged = find_operation(repo), unmerged_files(repo)
    storage = storage_of(repo)
    unread = [path for name in here[0] for path in pointers(repo, name)]
    otherwise: tuple[str, ...] = ()
    if head_item is not None and (storage == "lfs" or unread):  # else there is nothing that git-lfs could hold
        from forge.operations.storing import kept_otherwise

        otherwise = kept_otherwise(repo, head_item, "HEAD", storage)
    return Status(
        branch=git_text(repo, "symbolic-ref", "--quiet", "--short", "HEAD", check=False) or None,
        base=settings.base.reference,
        fingerprint=settings.base.fingerprint,
        strategy=settings.strategy,
        installed=clone_setup.is_installed(repo),
        contributions=contributions,
        head_problems=tuple(head_problems),
        work_tree_problems=tuple(problems),
        refused=tuple(refused),
        pointers=tuple(path for path in unread if path not in otherwise),
        get_pointers=how_to_get(repo) if unread else None,
        storage=storage,
        kept_otherwise=otherwise,
        lfsconfig=endpoints_named(repo),
        operation=operation.verb if operation else None,
        unmerged=tuple(of_the_model(unmerged)),
        next_steps=find_next_steps(repo, operation, unmerged, bool(head_problems), index),
    )


def _readable_item(repo: Repository, place: str | None) -> ForgeItem | None:
    from forge.repo.items import find_item

    try:
        return find_item(repo, place)
    except ForgeError:
        return None  # disagreements() reports it


def _unreadable(name: str, head_item: ForgeItem | None) -> ContributionStatus:
    entry = head_item.entry(name) if head_item else None
    return ContributionStatus(name, entry.coefficient if entry else None, "U", "U", (), False)


def _contribution(
    name: str,
    in_head: Mapping[str, ContributionFiles],
    in_index: Mapping[str, ContributionFiles],
    in_work_tree: Mapping[str, ContributionFiles],
    head_item: ForgeItem | None,
    work_tree_item: ForgeItem | None,
) -> ContributionStatus:
    from forge.recipe.item import identity

    head, index, here = in_head.get(name), in_index.get(name), in_work_tree.get(name)
    letters = (_letter(head, index), _letter(index, here))
    if head is None and index is None:
        letters = ("?", "?")
    entry = head_item.entry(name) if head_item else None
    recorded = work_tree_item.entry(name) if work_tree_item else None
    folded = recorded is None if here is None else False
    if here is not None and recorded is not None and not here.missing:
        folded = identity(here.entry(0.0)) == identity(recorded)
    missing = here.missing if here else ()
    return ContributionStatus(name, entry.coefficient if entry else None, *letters, missing, folded)


def _letter(before: ContributionFiles | None, after: ContributionFiles | None) -> str:
    if before is None:
        return " " if after is None else "A"
    if after is None:
        return "D"
    return " " if before.blobs == after.blobs else "M"


def _short(status: Status) -> list[str]:
    """`XY PATH` of what is in conflict and of every contribution that is not as in HEAD."""
    from forge.recipe.layout import path_of

    inside = [f"{path_of(each.name)}/" for each in status.contributions if each.index == "U"]
    conflicts = [f"UU {path}" for path in status.unmerged if not path.startswith(tuple(inside))]
    changed = [each for each in status.contributions if each.index + each.work_tree != "  "]
    return conflicts + [f"{each.index}{each.work_tree} {path_of(each.name)}" for each in changed]


def _porcelain(status: Status) -> list[str]:
    """Lines that stay as they are in later versions: `# KEY VALUE`, `XY NAME`, `! PLACE PROBLEM`."""
    lines = [
        f"# branch {status.branch or '(detached)'}",
        f"# base {status.base}",
        f"# fingerprint {status.fingerprint}",
        f"# strategy {status.strategy}",
        f"# installed {'yes' if status.installed else 'no'}",
    ]
    if status.operation:
        lines.append(f"# operation {status.operation}")
    lines += [f"# next {step}" for step in status.next_steps]
    lines += [f"! unmerged {path}" for path in status.unmerged]
    changed = [each for each in status.contributions if each.index + each.work_tree != "  "]
    lines += [f"{each.index}{each.work_tree} {each.name}" for each in changed]
    lines += [f"! HEAD {problem}" for problem in status.head_problems]
    lines += [f"! work-tree {problem}" for problem in status.work_tree_problems]
    lines += [f"! pointer {path}" for path in status.pointers]
    lines += [f"! kept-otherwise {path}" for path in status.kept_otherwise]
    lines += [f"! lfsconfig {each.key} {each.url} used {each.used or '(none)'}" for each in status.lfsconfig]
    return lines


def _print(status: Status) -> None:
    from forge import console
    from forge.recipe.wording import coefficient_words

    def say(*lines: str) -> None:
        console.say(*(line.rstrip() for line in lines))

    say(
        f"Branch    {status.branch or '(detached)'}",
        f"Base      {status.base}  {status.fingerprint}",
        f"Strategy  {status.strategy}",
    )
    if not status.installed:
        say("", "This clone is not set up: run `git forge install`.")
    if status.operation or status.unmerged:
        article = "An" if status.operation == "am" else "A"
        if status.operation:
            say("", f"{article} {status.operation} stands still{', in conflict:' if status.unmerged else '.'}")
        else:
            say("", "The model is in conflict:")
        say(*(f"  {path}" for path in status.unmerged))
    if status.next_steps:
        say("", "Next:", *(f"  {step}" for step in status.next_steps))
    say("")
    if status.contributions:
        rows = [
            (
                (each.index + each.work_tree).rstrip() or "-",
                each.name,
                coefficient_words(each.coefficient),
                _words(each),
            )
            for each in status.contributions
        ]
        console.print_table(("", "Contribution", "Coefficient", "State"), rows, right=(2,))
    else:
        say("No contributions yet: make one with `git forge train NAME --data DATA`.")
    if status.head_problems:
        say("", "In HEAD, the forge item and the tree disagree (see `git forge verify`):")
        say(*(f"  {problem}" for problem in status.head_problems))
    here = [problem for problem in status.work_tree_problems if problem not in status.head_problems]
    if here:
        say("", f"In the work tree{_folding(status)}:", *(f"  {problem}" for problem in here))
    if status.pointers:
        say("", f"Pointers of git-lfs in place of the files ({status.get_pointers}):")
        say(*(f"  {path}" for path in status.pointers))
    if status.kept_otherwise:
        staged = any(each.index not in " ?" for each in status.contributions)
        when = "once all is settled and committed, " if staged or status.next_steps else ""
        say(
            "", f"Not kept in {status.storage} as .gitattributes says ({when}run `git forge storage {status.storage}`):"
        )
        say(*(f"  {path}" for path in status.kept_otherwise))
    if status.lfsconfig:
        say("", "In .lfsconfig another place is named for git-lfs than the one that this clone asks:")
        say(*(f"  {each.key} = {each.url}  (asked: {each.used or 'none is set'})" for each in status.lfsconfig))
        say("If you trust it: git config lfs.url URL (lfs.pushurl for where files are pushed to)")


def _folding(status: Status) -> str:
    """What `git forge commit` does of what is new in the work tree, where it would."""
    if status.next_steps or status.operation:
        return ""  # these come first
    if status.refused or any(each.missing for each in status.contributions):
        return " (`git forge commit` folds what is new, once every contribution is whole)"
    return " (`git forge commit` folds what is new)"


def _words(status: ContributionStatus) -> str:
    if status.index == "U":
        return "cannot be read, see below"
    if status.missing:
        return f"incomplete: {', '.join(status.missing)} missing"
    if status.work_tree == "D" or (status.index == "D" and status.work_tree == " "):
        return "removed" if status.folded else "removed, not yet from the forge item"
    if not status.folded:
        return "new, not yet in the forge item" if status.coefficient is None else "changed, not yet in the forge item"
    if status.index == status.work_tree == " ":
        return "committed"
    return "staged" if status.work_tree == " " else "folded, not yet staged"
