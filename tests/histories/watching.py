"""What must hold after every step of a history, in every repository, and what an operation must have made."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from histories.oracle import (
    ITEM,
    Recipe,
    commit_problems,
    criss_cross_problems,
    expected_merge,
    merge_problems,
    needs_driver,
    tree_problems,
)
from histories.people import Person, Snapshot

from forge.git.running import find_repository
from forge.operations.verify import problems_of

DONE, STOPPED, REFUSED = "done", "stopped", "refused"


@dataclass(frozen=True)
class Sides:
    """What git merges: the ancestors (one, unless the histories cross or have none in common), ours and theirs."""

    ancestors: Sequence[Recipe]
    ours: Recipe
    theirs: Recipe

    @property
    def ancestor(self) -> Recipe | None:
        return self.ancestors[0] if self.ancestors else None

    @property
    def sure(self) -> bool:
        """Whether there is one ancestor to reckon with."""
        return len(self.ancestors) < 2

    def problems(self, result: Recipe) -> list[str]:
        if self.sure:
            return merge_problems(self.ancestor, self.ours, self.theirs, result)
        return criss_cross_problems(self.ours, self.theirs, result)


@dataclass
class Watch:
    """Looks at repositories from outside. `gated`: whether a merge may be refused for what it does to a task."""

    counts: Counter[str]
    gated: bool
    seen: dict[Path, set[str]] = field(default_factory=dict)  # by repository: commits that were there
    whole: set[str] = field(default_factory=set)  # trees that were looked at
    known: dict[Path, str] = field(default_factory=dict)  # by work tree: all its refs when it was looked at
    joint: dict[object, Mapping[str, Any]] = field(default_factory=dict)

    def outcome(self, person: Person, before: Snapshot, done: CompletedProcess[str], sides: Sides | None) -> str:
        """How an operation ended: done, stopped (and then it can be given up), or refused and nothing happened."""
        operation = person.operation()
        verb = done.args[1]
        if operation is not None:
            person.stopped = (operation, before)
            self.check_stopped(person, sides)
            self.counts[f"{verb}: stopped"] += 1
            return STOPPED
        if done.returncode != 0:
            after = person.snapshot()
            assert after == before, f"{done.args} was refused, and changed the tree\n{done.stdout}{done.stderr}"
            self.counts[f"{verb}: refused"] += 1
            return REFUSED
        self.counts[f"{verb}: done"] += 1
        return DONE

    def check_stopped(self, person: Person, sides: Sides | None) -> None:
        """An operation stands still: for a reason, and with the forge item whole or visibly in conflict."""
        unmerged = person.unmerged()
        here = person.top / ITEM
        if ITEM not in unmerged:
            if sides is not None:
                result = person.recipe(":")
                assert result is not None
                problems = sides.problems(result)
                assert not problems, problems
            return
        stages = [person.ok("cat-file", "blob", blob) for blob in unmerged[ITEM].values()]
        if here.read_text().strip() in stages:  # a driver that refuses, or is gone, leaves the file as it was
            if person.driver_works() and sides is not None and sides.sure:
                undecided = expected_merge(sides.ancestor, sides.ours, sides.theirs).conflict
                assert undecided or self.gated, "a conflict that nobody needs"
                self.counts["conflicts of recipes" if undecided else "refused by the gate"] += 1
        else:
            assert not person.driver_works()
            assert tree_problems(here.read_bytes(), b"", {}) == ["the digest does not match"]
            self.counts["text merges that conflict, as they must"] += 1
        if sides is not None and sides.sure:
            assert needs_driver(sides.ancestor, sides.ours, sides.theirs)

    def check_merged(self, person: Person, sides: Sides, result: Recipe) -> None:
        """A merge, pick or revert was made, with or without the driver."""
        problems = sides.problems(result)
        assert not problems, problems
        if sides.sure and needs_driver(sides.ancestor, sides.ours, sides.theirs):
            self.counts["merges by the driver, right"] += 1
        elif not sides.sure:
            self.counts["criss-cross merges, right"] += 1
        else:
            self.counts["merges that needed no driver, right"] += 1
        self.check_joint(result)

    def check_commit(self, before: Recipe, result: Recipe) -> None:
        problems = commit_problems(before, result)
        assert not problems, problems
        self.check_joint(result)

    def check_joint(self, result: Recipe) -> None:
        """A joint search gives the same coefficients to the same contributions, in whatever order they came."""
        if result.joint:
            asked = tuple(result.document["search"][part] for part in ("per", "objective", "evaluations"))
            key = (result.strategy, asked, frozenset(result.ids.items()))
            first = self.joint.setdefault(key, result.coefficients)
            assert first == result.coefficients
            self.counts["joint searches compared"] += 1

    def check_trailers(self, person: Person) -> None:
        """The message of HEAD, if this person's git has just made it, speaks of the model that HEAD is."""
        if any(person.head in seen for seen in self.seen.values()):
            return
        said = person.ok("log", "-1", "--format=%(trailers:key=Forge-Contribution,valueonly)").split("\n")
        words = dict(re.findall(r"(?m)^(\S+) (-?\d+\.\d+)$", "\n".join(said)))
        recipe = person.recipe("HEAD")
        if words and recipe is not None:
            assert words == {name: f"{value:.6f}" for name, value in recipe.coefficients.items()}

    def look(self, people: Sequence[Person]) -> None:
        """Every repository is sound, nothing that was there is gone, and every commit on a branch is a whole model."""
        for person in people:
            refs = person.refs()
            if self.known.get(person.top) == refs:
                continue
            self.known[person.top] = refs
            checked = person.git("fsck", "--full", "--no-dangling", "--no-progress")
            assert checked.returncode == 0, checked.stdout + checked.stderr
            seen = self.seen.setdefault(person.top, set())
            lost = [line for line in self._batch(person, seen) if not line.endswith(" commit")]
            assert not lost, f"gone from {person.name}: {lost}"
            listed = [line.split(" ") for line in person.ok("show-ref", "--head").split("\n")]
            tips = {commit for commit, ref in listed if ref != "refs/stash"}
            for commit in sorted(tips - seen):
                self.check_whole(person, commit)
            seen |= tips
            self.counts["looks at a repository"] += 1

    def check_whole(self, person: Person, rev: str) -> None:
        tree = person.ok("rev-parse", f"{rev}^{{tree}}")
        if tree not in self.whole:
            problems = self.agreed_problems(person, rev)
            assert not problems, problems
            self.whole.add(tree)
            self.counts["models found whole"] += 1

    def problems_by_hand(self, person: Person, rev: str) -> list[str]:
        recipe = person.recipe(rev)
        settings = person.git("cat-file", "blob", f"{rev}:forge.toml")
        return tree_problems(recipe.text if recipe else None, settings.stdout.encode(), person.tree(rev))

    def agreed_problems(self, person: Person, rev: str) -> list[str]:
        """What git forge finds in a commit, or in a tree as a commit of it; what we find by hand, it has found too."""
        commit = rev if person.has(rev) else person.ok("commit-tree", rev, "-m", "Staged")
        problems = self.problems_by_hand(person, commit)
        found = problems_of(find_repository(person.top), person.id(commit), scores=False)
        assert found or not problems, problems
        return found

    def forget(self, person: Person) -> None:
        """Another repository lies where this one was."""
        self.seen.pop(person.top, None)
        self.known.pop(person.top, None)

    @staticmethod
    def _batch(person: Person, objects: set[str]) -> list[str]:
        if not objects:
            return []
        names = "\n".join(sorted(objects)).encode() + b"\n"
        return person.ok("cat-file", "--batch-check=%(objectname) %(objecttype)", input=names).split("\n")
