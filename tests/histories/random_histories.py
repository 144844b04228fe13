"""Three people, a bare origin, and any operation in any order: a state machine for hypothesis."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from histories.acting import Acting
from histories.watching import DONE, STOPPED, Sides, Watch
from histories.workshop import MODELS, NAMES, PEOPLE, VERSIONS, Workshop
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from story.hospitals import write_contribution

WHO = st.sampled_from(PEOPLE)
PICK = st.integers(0, 999)  # one of what there is, whatever it is
NAME = st.sampled_from(NAMES)
VERSION = st.sampled_from(VERSIONS)
# What a person does to the todo list of an interactive rebase: git's editor, started with its path.
TODO = """\
import sys
how, path = sys.argv[1:]
lines = [line for line in open(path).read().splitlines() if line.startswith("pick ")]
if how == "reverse":
    lines.reverse()
elif how == "drop" and len(lines) > 1:
    lines[0] = "drop" + lines[0][4:]
elif how in ("squash", "fixup"):
    lines[1:] = [how + line[4:] for line in lines[1:]]
open(path, "w").write("\\n".join(lines) + "\\n")
"""


class RandomHistories(Acting, RuleBasedStateMachine):
    """Each rule lets one person do one thing; a person whose last operation stands still settles that first."""

    def __init__(self, workshop: Workshop, folder: Path) -> None:
        super().__init__()
        self.workshop = workshop
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.people = {}

    @initialize(pick=PICK)
    def start(self, pick: int) -> None:
        model = self.workshop.models[pick % len(self.workshop.models)]
        self.scores = self.workshop.base is not None
        self.people = self.workshop.start(model, self.folder / model)
        self.watch = Watch(self.workshop.counts, gated=MODELS[model][1] < 1)
        self.watch.counts["histories"] += 1
        self.todo = self.folder / "todo.py"
        self.todo.write_text(TODO)

    def teardown(self) -> None:
        for person in self.people.values():
            if person.stopped:
                self.give_up(person)
        for person in self.people.values():
            if person.name != "origin":
                self.verify(person)
        shutil.rmtree(self.folder)

    @invariant()
    def nothing_is_lost_and_every_commit_is_a_whole_model(self) -> None:
        self.watch.look(list(self.people.values()))
        self.watch.counts["steps"] += 1

    # What changes contributions

    @rule(who=WHO, pick=PICK, name=NAME, version=VERSION)
    def contribute(self, who: str, pick: int, name: str, version: int) -> None:
        """Add a contribution, or update one."""
        if person := self.free(who, pick):
            files = self.workshop.files(name, version, person.top / "forge.toml")
            write_contribution(person.top, name, files)
            self.commit(person)

    @rule(who=WHO, pick=PICK)
    def remove(self, who: str, pick: int) -> None:
        if (person := self.free(who, pick)) and (names := self.names(person)):
            shutil.rmtree(person.top / "contributions" / names[pick % len(names)])
            self.commit(person)

    @rule(who=WHO, pick=PICK, name=NAME)
    def rename(self, who: str, pick: int, name: str) -> None:
        if (person := self.free(who, pick)) and (names := self.names(person)) and name not in names:
            person.ok("mv", f"contributions/{names[pick % len(names)]}", f"contributions/{name}")
            self.commit(person)

    @rule(who=WHO, pick=PICK, amend=st.booleans())
    def edit_card(self, who: str, pick: int, amend: bool) -> None:
        """By plain git: a card is no part of the recipe."""
        if (person := self.free(who, pick)) and (names := self.names(person)):
            before = person.recipe("HEAD")
            card = person.top / "contributions" / names[pick % len(names)] / "card.toml"
            card.write_text(card.read_text() + f"# {pick}\n")
            person.ok("commit", "--quiet", "-a", *(["--amend", "--no-edit"] if amend else ["-m", self.subject()]))
            assert person.recipe("HEAD") == before
            self.count_made(person, "amend" if amend else "edit a card")

    @rule(who=WHO, pick=PICK, strategy=st.sampled_from(["mixture", "fusion", "mixture-output"]))
    def change_strategy(self, who: str, pick: int, strategy: str) -> None:
        if person := self.free(who, pick):
            recipe = person.recipe("HEAD")
            assert recipe is not None
            settings = person.top / "forge.toml"
            text = settings.read_text().replace(f'strategy = "{recipe.strategy}"', f'strategy = "{strategy}"')
            if strategy == "mixture-output":
                text = text.replace('per = "module"', 'per = "contribution"')
            settings.write_text(text)
            self.commit(person)

    # What joins histories

    @rule(who=WHO, pick=PICK)
    def merge(self, who: str, pick: int) -> None:
        if person := self.free(who, pick):
            theirs = self.other(person, pick)
            self.operate(person, ["merge", "--no-edit", theirs], self.merge_sides(person, "HEAD", theirs))

    @rule(who=WHO, pick=PICK, how=st.sampled_from(["--no-ff", "--no-ff", "--ff-only", "-Xours", "-Xtheirs"]))
    def merge_with(self, who: str, pick: int, how: str) -> None:
        if person := self.free(who, pick):
            theirs = self.other(person, pick)
            args = ["merge", "--no-edit", how, theirs]
            if how.startswith("-X") and not person.driver_works():
                self.force_through(person, args)
            else:
                self.operate(person, args, self.merge_sides(person, "HEAD", theirs))

    @rule(who=WHO, pick=PICK)
    def merge_nothing_of_theirs(self, who: str, pick: int) -> None:
        """The strategy "ours", with which branches are buried."""
        if person := self.free(who, pick):
            before = person.recipe("HEAD")
            self.operate(person, ["merge", "--no-edit", "--no-ff", "-sours", self.other(person, pick)], None)
            assert person.recipe("HEAD") == before

    @rule(who=WHO, pick=PICK, how=st.sampled_from(["--squash", "--no-commit"]))
    def merge_and_commit_later(self, who: str, pick: int, how: str) -> None:
        if person := self.free(who, pick):
            theirs = self.other(person, pick)
            sides = self.merge_sides(person, "HEAD", theirs)
            before = person.snapshot()
            done = person.git("merge", how, theirs)
            after = person.snapshot()
            if how == "--no-commit" and person.operation() == "merge" and not person.unmerged():
                person.ok("commit", "--quiet", "--no-edit")
                self.made(person, before, sides)
            elif self.watch.outcome(person, before, done, sides) == DONE and after != before:
                if after.head == before.head:
                    person.ok("commit", "--quiet", "--no-edit", "-m", self.subject())
                self.made(person, before, sides)

    @rule(who=WHO, pick=PICK, second=PICK)
    def octopus(self, who: str, pick: int, second: int) -> None:
        if person := self.free(who, pick):
            before = person.snapshot()
            done = person.git("merge", "--no-edit", self.other(person, pick), self.other(person, second))
            if person.operation() is not None and len((person.git_dir / "MERGE_HEAD").read_text().split()) > 1:
                assert "octopus" in person.git("forge", "resolve").stderr
                person.stopped = ("merge", before)
                self.watch.counts["octopus: stopped"] += 1
            else:  # one branch, or none that is new, or refused
                self.watch.outcome(person, before, done, None)

    @rule(who=WHO, pick=PICK, other=PICK)
    def merge_button(self, who: str, pick: int, other: int) -> None:
        """merge-tree, as the web page of a host does it; on the origin without any driver."""
        person = self.people["origin" if pick % 2 else who]
        branches = person.branches()
        ours, theirs = branches[pick % len(branches)], branches[other % len(branches)]
        sides = self.merge_sides(person, ours, theirs)
        tree, *_ = (done := person.git("merge-tree", "--write-tree", ours, theirs)).stdout.split("\n")
        if done.returncode == 0 and sides is not None:
            result = person.recipe(tree)
            assert result is not None
            self.watch.check_merged(person, sides, result)
            if person.name == "origin" and ours != theirs:
                message = ["-p", ours, "-p", theirs, "-m", self.subject()]
                person.ok("update-ref", f"refs/heads/{ours}", person.ok("commit-tree", tree, *message))
        self.watch.counts[f"merge-tree: {'done' if done.returncode == 0 else 'conflict'}"] += 1

    @rule(who=WHO, pick=PICK, how=st.sampled_from(["", "", "reverse", "drop", "squash", "fixup"]))
    def rebase(self, who: str, pick: int, how: str) -> None:
        if person := self.free(who, pick):
            before = person.snapshot()
            rewritten = person.git_dir / "rewritten"
            rewritten.unlink(missing_ok=True)
            hook = person.common_dir / "hooks" / "post-rewrite"
            hook.write_text('#!/bin/sh\ncat > "$(git rev-parse --git-dir)/rewritten"\n')
            hook.chmod(0o755)
            editor = f"'{sys.executable}' -IS '{self.todo}' {how}"
            args = ["-i"] if how else []
            done = person.git("rebase", *args, self.other(person, pick), GIT_SEQUENCE_EDITOR=editor)
            sides = self.pick_sides(person, "REBASE_HEAD", "HEAD") if person.operation() else None
            if self.watch.outcome(person, before, done, sides) == DONE:
                self.check_rewritten(person, rewritten)

    @rule(who=WHO, pick=PICK)
    def cherry_pick(self, who: str, pick: int) -> None:
        if person := self.free(who, pick):
            commit, line = self.commit_and_line(person, pick)
            if line:
                sides = self.pick_sides(person, commit, "HEAD", int(line))
                self.operate(
                    person, ["cherry-pick", *(["-m", line] if self.is_merge(person, commit) else []), commit], sides
                )

    @rule(who=WHO, pick=PICK, last=st.booleans())
    def revert(self, who: str, pick: int, last: bool) -> None:
        """A commit, a merge, or a revert; often the last one."""
        if person := self.free(who, pick):
            commit, line = self.commit_and_line(person, pick, ["HEAD"] if last else None)
            if line:
                sides = self.pick_sides(person, commit, "HEAD", int(line), backwards=True)
                main = ["-m", line] if self.is_merge(person, commit) else []
                self.operate(person, ["revert", "--no-edit", *main, commit], sides)

    @rule(who=WHO, sender=WHO, pick=PICK)
    def apply_mail(self, who: str, sender: str, pick: int) -> None:
        if person := self.free(who, pick):
            other = self.people[sender]
            commits = other.commits("--min-parents=1", "--max-parents=1")
            commit = commits[pick % len(commits)]
            mail = other.ok("format-patch", "--stdout", "--binary", "-1", commit).encode() + b"\n"
            ours, theirs, ancestor = (
                p.recipe(r) for p, r in ((person, "HEAD"), (other, commit), (other, f"{commit}^"))
            )
            assert ours and theirs and ancestor
            sides = Sides([ancestor], ours, theirs)
            before = person.snapshot()
            done = person.git("am", "-3", input=mail)
            if self.watch.outcome(person, before, done, None) == DONE and person.head != before.head:
                result = person.recipe("HEAD")
                assert result is not None
                self.watch.check_merged(person, sides, result)

    # What moves about

    @rule(who=WHO, pick=PICK, fresh=st.booleans())
    def switch(self, who: str, pick: int, fresh: bool) -> None:
        if person := self.free(who, pick):
            before = person.snapshot()
            branches = person.branches() if fresh else person.local_branches()
            start = branches[pick % len(branches)]
            args = ["-c", f"{who}-{self.step}", "--no-track", start] if fresh else [start]
            self.step += 1
            self.watch.outcome(person, before, person.git("switch", "--quiet", *args), None)

    @rule(who=WHO, pick=PICK, force=st.booleans())
    def push(self, who: str, pick: int, force: bool) -> None:
        person = self.people[who]
        branches = person.local_branches()
        branch = branches[pick % len(branches)]
        before = self.people["origin"].ok("for-each-ref")
        done = person.git("push", *(["--force-with-lease"] if force else []), "origin", f"{branch}:{branch}")
        if done.returncode != 0:
            assert "[rejected]" in done.stderr, done.stderr
            assert self.people["origin"].ok("for-each-ref") == before
        else:
            assert self.people["origin"].id(branch) == person.id(branch)
        self.watch.counts[f"push: {'done' if done.returncode == 0 else 'refused'}"] += 1

    @rule(who=WHO, pick=PICK, name=NAME, version=VERSION, with_item=st.booleans())
    def stash(self, who: str, pick: int, name: str, version: int, with_item: bool) -> None:
        """Put away a contribution that is not folded yet, or a squashed merge with its forge item."""
        if person := self.free(who, pick):
            before = person.snapshot()
            if with_item:
                theirs = self.other(person, pick)
                done = person.git("merge", "--squash", theirs)
                if self.watch.outcome(person, before, done, self.merge_sides(person, "HEAD", theirs)) == STOPPED:
                    return
            else:
                files = self.workshop.files(name, version, person.top / "forge.toml")
                write_contribution(person.top, name, files)
            if person.snapshot().head == before.head:
                person.ok("stash", "push", "--quiet", "--include-untracked")
                assert person.snapshot() == before
                self.watch.counts["stash push: done"] += 1

    @rule(who=WHO, pick=PICK)
    def pop_stash(self, who: str, pick: int) -> None:
        if (person := self.free(who, pick)) and person.has("refs/stash"):
            sides = self.pick_sides(person, "refs/stash", "HEAD")
            stash = person.id("refs/stash")
            before = person.snapshot()
            done = person.git("stash", "pop")
            if person.operation() or done.returncode:
                assert person.id("refs/stash") == stash
            if self.watch.outcome(person, before, done, sides) == DONE:
                self.commit(person)

    @rule(who=WHO, pick=PICK, how=st.sampled_from(["--soft", "--hard"]))
    def step_back(self, who: str, pick: int, how: str) -> None:
        """Drop the last commit, or make one of the last two."""
        if (person := self.free(who, pick)) and person.has("HEAD~2"):
            before = person.recipe("HEAD")
            person.ok("reset", "--quiet", how, "HEAD~1")
            if how == "--soft" and person.git("diff", "--cached", "--quiet").returncode:
                person.ok("commit", "--quiet", "--amend", "--allow-empty", "-m", self.subject())
                assert person.recipe("HEAD") == before
                self.count_made(person, "squash by hand")

    @rule(how=st.sampled_from(["--no-local", "--depth=2", "--filter=blob:none"]), install=st.booleans())
    def clone_again(self, how: str, install: bool) -> None:
        """Alice has a new machine, with a whole, a shallow or a partial clone; what she had not pushed is gone."""
        alice = self.people["alice"]
        shutil.rmtree(alice.top)
        origin = self.people["origin"]
        origin.ok("clone", "--quiet", how, f"file://{origin.top}", str(alice.top))
        if install:
            alice.ok("forge", "install")
        alice.stopped = None
        self.watch.forget(alice)

    @rule(who=WHO, what=st.sampled_from(["fetch", "fetch", "gc", "verify"]))
    def keep_house(self, who: str, what: str) -> None:
        person = self.people[who]
        if what == "verify":
            if not person.stopped:
                self.verify(person)
        else:
            person.ok(what, "--quiet")

    @rule(who=WHO, how=st.sampled_from(["uninstall", "install", "install", "gone", "status"]))
    def set_up(self, who: str, how: str) -> None:
        """Clones without git forge, with it, and with one that is gone."""
        person = self.people[who]
        if how == "gone":
            person.ok("config", "merge.forge.driver", "/nowhere/git-forge merge-driver %O %A %B %P")
        else:
            person.git("forge", how, *(["--force"] if how == "install" else []))
        left_out = person.git("config", "forge.uninstalled").returncode == 0
        if how == "install" or (how == "status" and not left_out):
            assert person.driver_works()
