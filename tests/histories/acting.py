"""How people act in a random history: a commit, an operation with its three sides, and what follows a conflict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from histories.oracle import proportion_problems
from histories.people import Person, Snapshot
from histories.watching import DONE, Sides, Watch


class Acting:
    """What the rules of the state machine are made of. A person whose last operation stands still settles it first."""

    people: dict[str, Person]
    watch: Watch
    scores = True  # whether git forge verify is to compute them
    step = 0

    def free(self, who: str, pick: int) -> Person | None:
        """The person, if nothing stands still there; else that is settled now, in some way, and it is None."""
        person = self.people[who]
        if person.stopped is None:
            return person
        ways = (self.give_up, self._skip, self._resolve, self._resolve, self._resolve, self._commit_as_it_lies)
        ways[pick % len(ways)](person, pick)
        return None

    def give_up(self, person: Person, pick: int = 0) -> None:
        person.undo()
        self.watch.counts["given up, and all as it was"] += 1

    def _skip(self, person: Person, pick: int) -> None:
        """Go on without the commit that does not fit."""
        assert person.stopped is not None
        if person.stopped[0] in ("rebase", "cherry-pick", "revert", "am"):
            person.git(person.stopped[0], "--skip")
            if person.operation() is None:
                person.stopped = None
            self.watch.counts["skipped"] += 1
        else:
            self.give_up(person)

    def _resolve(self, person: Person, pick: int) -> None:
        """git forge resolve, and on with it: what is staged is a whole model, or nothing has changed."""
        assert person.stopped is not None
        operation = person.stopped[0]
        before, ours = person.snapshot(), person.recipe("HEAD")
        side = ["--ours"] if pick % 3 else ["--theirs"]
        accept = ["--accept"] if pick % 5 else []
        strategy = ["--strategy", "mixture"] if pick % 7 == 0 else []
        done = person.git("forge", "resolve", *side, *accept, *strategy)
        if done.returncode != 0:
            assert "error: " in done.stderr and "hint: " in done.stderr, done.stderr
            assert person.snapshot() == before, "resolve refused, and changed the tree"
            self.watch.counts[f"resolve: {done.stderr.partition('error: ')[2][:40]!r}"] += 1
        elif not person.unmerged():
            staged = person.recipe(":")
            assert ours is not None and staged is not None
            problems = proportion_problems(ours, staged)
            assert not problems, problems
            self.watch.check_joint(staged)
            self.watch.check_whole(person, person.ok("write-tree"))
            if operation == "merge-free":
                person.ok("commit", "--quiet", "--allow-empty", "-m", self.subject())
            else:
                person.git(operation, "--continue")
            self.watch.counts["resolved"] += 1
        if person.operation() is None:
            person.stopped = None
            if operation != "am":  # for which git calls no hook that could write trailers
                self.count_made(person, "resolved and gone on")
        elif done.returncode != 0 or person.unmerged() == {}:
            self.give_up(person)

    def _commit_as_it_lies(self, person: Person, pick: int) -> None:
        """A conflict committed as if it were none: it is noticed, it cannot be pushed, and refold mends it."""
        assert person.stopped is not None
        operation, before = person.stopped
        if operation not in ("merge", "cherry-pick", "revert", "merge-free"):
            self.give_up(person)
            return
        person.ok("add", "--all")
        person.ok("commit", "--quiet", "--allow-empty", "-m", self.subject())
        person.stopped = None
        if self.watch.agreed_problems(person, "HEAD"):
            self.watch.counts["merged but not forged, and noticed"] += 1
            if person.driver_works() and self.watch.problems_by_hand(person, "HEAD"):
                there = self.people["origin"].ok("for-each-ref")
                assert "the push was refused" in person.git("push", "origin", f"HEAD:refs/heads/{person.name}").stderr
                assert self.people["origin"].ok("for-each-ref") == there
            if person.git("forge", "refold", "--accept").returncode == 0:
                person.ok("commit", "--quiet", "--amend", "--no-edit")
                self.watch.counts["refolded"] += 1
        if self.watch.agreed_problems(person, "HEAD"):  # a card with conflict markers, say
            person.ok("reset", "--quiet", "--hard", before.head)

    def operate(self, person: Person, args: Sequence[str], sides: Sides | None) -> None:
        before = person.snapshot()
        if self.watch.outcome(person, before, person.git(*args), sides) == DONE:
            self.made(person, before, sides)

    def force_through(self, person: Person, args: Sequence[str]) -> None:
        """A text merge that was told to leave no conflict may be wrong; then the next command says so."""
        before = person.snapshot()
        if self.watch.outcome(person, before, person.git(*args), None) == DONE and person.head != before.head:
            if self.watch.agreed_problems(person, "HEAD"):
                self.watch.counts["text merges that were forced through, and noticed"] += 1
                person.ok("reset", "--quiet", "--hard", before.head)
            else:
                self.made(person, before, None)

    def made(self, person: Person, before: Snapshot, sides: Sides | None) -> None:
        """HEAD is a new commit of an operation, or what it was fast-forwarded to."""
        if person.head == before.head:
            return
        result = person.recipe("HEAD")
        assert result is not None
        if sides is not None:
            self.watch.check_merged(person, sides, result)
        self.count_made(person, "operations that made a commit")

    def count_made(self, person: Person, what: str) -> None:
        if person.driver_works():
            self.watch.check_trailers(person)
        self.watch.counts[what] += 1

    def commit(self, person: Person) -> None:
        """git forge commit of what lies in the work tree; where it refuses, all stays, and is then thrown away."""
        before, old = person.snapshot(), person.recipe("HEAD")
        done = person.git("forge", "commit", "-m", self.subject())
        result = person.recipe("HEAD")
        assert old is not None and result is not None
        if done.returncode == 0:
            self.watch.check_commit(old, result)
            self.count_made(person, "forge commit: done")
            assert person.ok("status", "--porcelain") == ""
        else:
            assert "error: " in done.stderr
            assert person.snapshot() == before, "refused, and changed the tree"
            person.ok("reset", "--quiet", "--hard")
            person.ok("clean", "--quiet", "-fd")
            self.watch.counts[f"forge commit: {done.stderr.partition('error: ')[2][:30]}"] += 1

    def verify(self, person: Person) -> None:
        done = person.git("forge", "verify", *([] if self.scores else ["--no-scores"]))
        assert done.returncode == 0, done.stdout + done.stderr
        self.watch.counts["scores that reproduce" if self.scores else "verified"] += 1

    def check_rewritten(self, person: Person, rewritten: Path) -> None:
        if not rewritten.exists():
            return
        pairs = [line.split(" ")[:2] for line in rewritten.read_text().splitlines()]
        for old, new in pairs:
            if [one for _, one in pairs].count(new) == 1 and len(person.parents(old)) == 1 and person.parents(new):
                sides = self.pick_sides(person, old, f"{new}^")
                result = person.recipe(new)
                assert sides is not None and result is not None
                self.watch.check_merged(person, sides, result)
                self.watch.counts["commits rebased"] += 1

    def merge_sides(self, person: Person, ours: str, theirs: str) -> Sides | None:
        bases = person.git("merge-base", "--all", ours, theirs).stdout.split()
        found = [recipe for base in bases if (recipe := person.recipe(base))]
        mine, other = person.recipe(ours), person.recipe(theirs)
        return Sides(found, mine, other) if mine and other else None

    def pick_sides(
        self, person: Person, commit: str, ours: str, line: int = 1, *, backwards: bool = False
    ) -> Sides | None:
        """A cherry-pick of `commit` onto `ours`; backwards, its revert."""
        parent, picked, mine = person.recipe(f"{commit}^{line}"), person.recipe(commit), person.recipe(ours)
        if parent is None or picked is None or mine is None:
            return None
        return Sides([picked], mine, parent) if backwards else Sides([parent], mine, picked)

    def other(self, person: Person, pick: int) -> str:
        branches = [branch for branch in person.branches() if branch != person.branch]
        return branches[pick % len(branches)]

    def commit_and_line(self, person: Person, pick: int, among: list[str] | None = None) -> tuple[str, str]:
        """A commit and the number of its parent to compare with; none for the first commits."""
        commits = among or person.commits()
        commit = commits[pick % len(commits)]
        parents = person.parents(commit)
        line = 1 + pick % len(parents) if parents else 0
        return commit, str(line) if line and person.has(f"{commit}~2") else ""

    def is_merge(self, person: Person, commit: str) -> bool:
        return len(person.parents(commit)) > 1

    def names(self, person: Person) -> list[str]:
        recipe = person.recipe("HEAD")
        assert recipe is not None
        return sorted(recipe.ids)

    def subject(self) -> str:
        self.step += 1
        return f"Step {self.step}"
