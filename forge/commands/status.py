"""git forge status: contributions and forge item in HEAD, index and work tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from forge.operations.status import ContributionStatus, Status


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
    from forge.operations.opening import open_model
    from forge.operations.status import find_status

    status = find_status(open_model())
    if as_json:
        console.emit_json(asdict(status))
    elif porcelain:
        console.say(*_porcelain(status))
    elif short:
        lines = [*([f"## {status.branch or 'HEAD (no branch)'}"] if branch else []), *_short(status)]
        if lines:
            console.say(*lines)
    else:
        _print(status)


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
