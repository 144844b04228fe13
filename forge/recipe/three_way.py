"""Three-way merge of recipes: which contributions the merged model has, and their coefficients.

Pure functions of (ancestor, ours, theirs): no git, no files, no search. Contributions are a set keyed by
name; what a side did to one is judged by the ids of its blobs alone, because coefficients change at every
merge. Who merges calls plan_merge, searches, and puts what was found into the plan: two scales with combine,
coefficients of any other kind with entries_with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from forge.errors import MergeConflict
from forge.recipe.catalogue import STRATEGIES
from forge.recipe.checks import Coefficient
from forge.recipe.item import Base, Entry, ForgeItem, doubled_payloads, identity
from forge.recipe.layout import path_of

# Who runs the merge driver is not known to it: git merge has left no trace yet.
_BACK = "`git merge --abort` (or rebase, cherry-pick, revert)"


@dataclass(frozen=True)
class MergePlan:
    """A merge without its coefficients.

    ours: the contributions that ours brings, with ours' coefficients (theirs' changes of those are dropped).
    theirs: those that are new or replaced in theirs, with theirs' coefficients.
    removed: the names of those that ours has and the merged model has not, because theirs took them out.
    All three are sorted by name, and no name is in two of them.
    """

    base: Base
    strategy: str
    ours: tuple[Entry, ...]
    theirs: tuple[Entry, ...]
    removed: tuple[str, ...]


def plan_merge(ancestor: ForgeItem | None, ours: ForgeItem, theirs: ForgeItem) -> MergePlan:
    """What a merge takes from which side; `ancestor` is None where the sides have none in common.

    Raises MergeConflict where the sides changed the base, the strategy or one contribution differently.
    """
    strategy = _merge_strategy(ancestor, ours, theirs)
    base = _merge_base(ancestor, ours, theirs)
    from_ours: list[Entry] = []
    from_theirs: list[Entry] = []
    removed: list[str] = []
    for name in sorted({*ours.names, *theirs.names}):
        before = ancestor.entry(name) if ancestor else None
        our_entry, their_entry = ours.entry(name), theirs.entry(name)
        if same_contribution(our_entry, their_entry) or same_contribution(before, their_entry):
            if our_entry:
                from_ours.append(our_entry)
        elif same_contribution(before, our_entry):
            if their_entry:
                from_theirs.append(their_entry)
            else:
                removed.append(name)
        else:
            raise _contribution_conflict(name, before, our_entry, their_entry)
    _refuse_names_of_one_folder([*from_ours, *from_theirs])
    refuse_doubled([*from_ours, *from_theirs])
    return MergePlan(base, strategy, tuple(from_ours), tuple(from_theirs), tuple(removed))


def plan_of_tree(
    tree: Iterable[Entry], ours: ForgeItem, others: Sequence[ForgeItem], base: Base, strategy: str
) -> MergePlan:
    """The merge that ended in the contributions of a `tree`, when git or a person has settled it without the driver.

    A contribution that `ours` has keeps its coefficient and side; one that the first of the `others` has comes in
    with theirs. What is in neither is new, with the coefficient 1. For a tree that git merged without a conflict
    this is the plan of plan_merge. Raises MergeConflict for two names that are one folder on many machines.
    """
    from_ours: list[Entry] = []
    from_others: list[Entry] = []
    for entry in sorted(tree, key=lambda entry: entry.name):
        our_entry = ours.entry(entry.name)
        if our_entry and identity(our_entry) == identity(entry):
            from_ours.append(our_entry)
            continue
        known = [
            candidate
            for other in others
            if (candidate := other.entry(entry.name)) and same_contribution(candidate, entry)
        ]
        from_others.append(known[0] if known else replace(entry, coefficient=1.0, tasks={}))
    _refuse_names_of_one_folder([*from_ours, *from_others])
    refuse_doubled([*from_ours, *from_others])
    names = {entry.name for entry in (*from_ours, *from_others)}
    removed = tuple(name for name in ours.names if name not in names)
    return MergePlan(base, strategy, tuple(from_ours), tuple(from_others), removed)


def put_together(entry: Entry, ours: ForgeItem, theirs: ForgeItem) -> bool:
    """Whether a contribution is neither side's, but a mixture of both sides' files that nobody has made on purpose."""
    our_entry, their_entry = ours.entry(entry.name), theirs.entry(entry.name)
    if our_entry is None or their_entry is None or identity(entry) in (identity(our_entry), identity(their_entry)):
        return False
    return all(
        part in parts for part, *parts in zip(identity(entry), identity(our_entry), identity(their_entry), strict=True)
    )


def combine(plan: MergePlan, ours_scale: float, theirs_scale: float) -> tuple[Entry, ...]:
    """The contributions of the merged model, sorted by name, where one scale a side was found.

    The recursion of MedForge (2025), Eq. 3 and 4, unrolled: c_k <- w_i c_k for what ours has, and w'_i c_k
    for what theirs brings (c_k = 1 for a contribution that nobody has merged yet, so its c becomes w'_i).
    Coefficients per module are scaled one by one. Those for single tasks are gone: no scale was found for them.
    """
    scaled = [(entry, ours_scale) for entry in plan.ours] + [(entry, theirs_scale) for entry in plan.theirs]
    return tuple(
        replace(entry, coefficient=_scaled(entry.coefficient, scale), tasks={})
        for entry, scale in sorted(scaled, key=lambda pair: pair[0].name)
    )


def entries_with(
    plan: MergePlan,
    coefficients: Mapping[str, Coefficient],
    by_task: Mapping[str, Mapping[str, Coefficient]] | None = None,
) -> tuple[Entry, ...]:
    """The contributions of the merged model, sorted by name, with the coefficients found for them.

    coefficients: by the contribution's name; by_task: the same for every task of a task-aware model.
    """
    return tuple(
        replace(
            entry,
            coefficient=coefficients[entry.name],
            tasks={task: task_coefficients[entry.name] for task, task_coefficients in (by_task or {}).items()},
        )
        for entry in sorted((*plan.ours, *plan.theirs), key=lambda entry: entry.name)
    )


def union(ancestor: ForgeItem | None, ours: ForgeItem, theirs: ForgeItem) -> ForgeItem:
    """A recipe that stands for both sides where git makes a virtual ancestor of a criss-cross merge.

    As plan_merge, but nothing conflicts: ours wins, and a contribution that one side took out and the other
    changed stays. No coefficient is searched: only the blobs of an ancestor count, so all coefficients are 1.
    """
    entries: dict[str, Entry] = {}
    for name in sorted({*ours.names, *theirs.names}):
        before = ancestor.entry(name) if ancestor else None
        our_entry, their_entry = ours.entry(name), theirs.entry(name)
        if same_contribution(before, our_entry):
            chosen = their_entry
        elif same_contribution(before, their_entry):
            chosen = our_entry
        else:
            chosen = our_entry or their_entry
        if chosen and name.lower() not in entries:
            entries[name.lower()] = replace(chosen, coefficient=1.0, tasks={})
    kept_base = ancestor is not None and ours.base == ancestor.base
    kept_strategy = ancestor is not None and ours.strategy == ancestor.strategy
    return ForgeItem(
        base=theirs.base if kept_base else ours.base,
        strategy=theirs.strategy if kept_strategy else ours.strategy,
        contributions=tuple(entries.values()),
    )


def _scaled(coefficient: Coefficient, scale: float) -> Coefficient:
    if isinstance(coefficient, Mapping):
        return {module: scale * value for module, value in coefficient.items()}
    return scale * coefficient


def same_contribution(one: Entry | None, other: Entry | None) -> bool:
    """Both absent, or the same contribution; coefficients do not count."""
    if one is None or other is None:
        return one is other
    return identity(one) == identity(other)


def _merge_strategy(ancestor: ForgeItem | None, ours: ForgeItem, theirs: ForgeItem) -> str:
    if ours.strategy == theirs.strategy:
        return ours.strategy
    if ancestor and theirs.strategy == ancestor.strategy:
        return ours.strategy
    if ancestor and ours.strategy == ancestor.strategy:
        return theirs.strategy
    raise MergeConflict(
        f"the two sides use different strategies: ours {ours.strategy!r}, theirs {theirs.strategy!r}",
        hint=f"choose one with `git forge resolve --strategy {'|'.join(STRATEGIES)}`, which also writes it to "
        f"forge.toml; or go back with {_BACK}",
    )


def _merge_base(ancestor: ForgeItem | None, ours: ForgeItem, theirs: ForgeItem) -> Base:
    our_base, their_base = ours.base, theirs.base
    before = ancestor.base if ancestor else None
    if our_base.fingerprint == their_base.fingerprint:
        # The same weights under two references, such as two paths: whoever changed it last is right.
        return their_base if our_base == before else our_base
    if before and their_base.fingerprint == before.fingerprint:
        return our_base
    if before and our_base.fingerprint == before.fingerprint:
        return their_base
    raise MergeConflict(
        "the two sides are built on different base models: "
        f"ours on {our_base.reference} ({our_base.fingerprint}), "
        f"theirs on {their_base.reference} ({their_base.fingerprint})",
        hint=f"an adapter works on the base it was trained on only: go back with {_BACK}, "
        "and train theirs again on the base that forge.toml names on this branch",
    )


def _contribution_conflict(
    name: str, before: Entry | None, our_entry: Entry | None, their_entry: Entry | None
) -> MergeConflict:
    folder = path_of(name)
    if our_entry is None or their_entry is None:
        doer, changer = ("ours", "theirs") if our_entry is None else ("theirs", "ours")
        what = f"contribution {name!r} was removed in {doer} and replaced in {changer}"
    else:
        done = "added" if before is None else "replaced"
        what = f"contribution {name!r} was {done} differently in ours and in theirs"
    return MergeConflict(
        f"{folder}: {what}",
        hint="take one side's with `git forge resolve --ours` or `git forge resolve --theirs`; to have both, "
        f"go back with {_BACK}, rename one of them (`git mv {folder} contributions/NEW-NAME`), "
        "run `git forge commit` there, and merge again",
    )


def refuse_doubled(entries: Sequence[Entry]) -> None:
    """Raise MergeConflict where one adapter or distilled dataset is there under several names."""
    problems = doubled_payloads(entries)
    if problems:
        raise MergeConflict(
            f"{problems[0]}: it would count more than once",
            hint="leave one of them: take the others out with `git rm -r contributions/NAME`",
        )


def _refuse_names_of_one_folder(entries: list[Entry]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        other = seen.setdefault(entry.name.lower(), entry.name)
        if other != entry.name:
            raise MergeConflict(
                f"{path_of(entry.name)} and {path_of(other)} differ only in upper and lower case, "
                "and are one folder on many machines",
                hint=f"run {_BACK}, rename one of them (`git mv contributions/{entry.name} "
                "contributions/NEW-NAME`), run `git forge commit` there, and merge again",
            )
