"""Which files of a model wait for a person, while git is in the middle of something."""

from __future__ import annotations

from collections.abc import Iterable

from forge.errors import ForgeError
from forge.git.in_progress import Operation, find_operation, go_on, octopus_error, unmerged_files
from forge.git.places import INDEX
from forge.git.running import Repository
from forge.recipe.layout import ATTRIBUTES_FILE, is_in_model
from forge.repo.contributions import disagreements


def of_the_model(paths: Iterable[str]) -> list[str]:
    """Those of the paths that a model consists of, sorted."""
    return sorted(path for path in paths if is_in_model(path) and path != ATTRIBUTES_FILE)


def refuse_unfinished(repo: Repository, *, in_a_rebase: bool) -> Operation | None:
    """Raise ForgeError while something stands still or the model is in conflict, and say how to settle it.

    in_a_rebase: whether to go on in a rebase without conflicts; it stands still on purpose, too. What stands still
    there is returned.
    """
    operation, unmerged = find_operation(repo), unmerged_files(repo)
    waiting = of_the_model(unmerged)
    if operation is not None and operation.is_octopus:
        raise octopus_error(repo, operation)
    if not waiting and (operation is None or (in_a_rebase and operation.verb == "rebase")):
        return operation
    give_up = f"; or {operation.give_up}" if operation else ""
    hint = f"settle the model with `git forge resolve`{give_up}"
    if operation is not None and not waiting and not disagreements(repo, INDEX):
        others = f"settle {', '.join(sorted(unmerged))} (then git add) and " if unmerged else ""
        hint = f"{others}finish it with {operation.go_on if unmerged else go_on(repo, operation)}{give_up}"
    raise ForgeError(f"a {operation.verb} is in progress" if operation else f"{waiting[0]}: merge conflict", hint=hint)
