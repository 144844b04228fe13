"""What `git forge status` advises while something stands still: every step is done, and does what it is for."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest
from operations.settled_models import SettledModel, assert_whole, go_on, ok, run

from forge.operations.status import find_status

Stop = Callable[[SettledModel], object]


def follow(model: SettledModel) -> list[str]:
    """Do what status says until it says nothing more; the steps that were done."""
    done: list[str] = []
    while steps := find_status(model.repo).next_steps:
        for step in steps:
            assert len(done) < 12, done
            done.append(step)
            program, *args = shlex.split(step, comments=True)
            assert program == "git"
            if args[0] == "forge":
                said = run(model, *args[1:])
                assert said.code == 0, f"{done}\n{said.err}"
                if "or --" in step:
                    break  # what follows depends on the choice
            else:
                go_on(model, *args, *(["-m", "The end"] if args == ["commit"] else []))
    return done


def merge(*branches: str) -> Stop:
    return lambda model: model.stop("merge", *branches)


def on_lung(*args: str) -> Stop:
    """A command on the branch lung, whose contribution lung other has changed."""

    def stop(model: SettledModel) -> None:
        model.git("switch", "--quiet", "lung")
        model.stop(*args)

    return stop


def strategies(model: SettledModel) -> None:
    change(model, "lung", 'strategy = "mixture"', 'strategy = "fusion"')
    change(model, "main", 'strategy = "mixture"', 'strategy = "mixture-output"')
    model.stop("merge", "lung")


def strategies_and_contributions(model: SettledModel) -> None:
    change(model, "other", 'strategy = "mixture"', 'strategy = "fusion"')
    change(model, "lung", 'strategy = "mixture"', 'strategy = "mixture-output"')
    model.stop("merge", "other")


def other_settings(model: SettledModel) -> None:
    text = (model.top / "forge.toml").read_text()
    change(model, "lung", "gate = 0.2", "gate = 0.3")
    change(model, "main", "gate = 0.2", "gate = 0.4")
    model.stop("merge", "lung")
    (model.top / "forge.toml").write_text(text)


def a_readme_besides(model: SettledModel) -> None:
    for branch in ("lung", "main"):
        model.git("switch", "--quiet", branch)
        model.write("READ ME", branch.encode())
        model.commit("Write something")
    model.stop("merge", "lung")
    model.write("READ ME", b"settled")


def a_pick_that_is_there(model: SettledModel) -> None:
    model.git("switch", "--quiet", "lung")
    model.git("commit", "--quiet", "--allow-empty", "-m", "Later")
    assert model.run("cherry-pick", "lung~1").returncode


def staged_in_a_rebase(model: SettledModel) -> None:
    model.git("switch", "--quiet", "colon")
    model.write("notes", b"1")
    model.commit("Notes")
    model.git("switch", "--quiet", "lung")
    model.stop("rebase", "colon")
    ok(model, "resolve")
    model.write("notes", b"2")


def an_unforged_merge(model: SettledModel) -> None:
    model.run("-c", "merge.forge.driver=true", "merge", "--no-edit", "lung")
    model.write_contribution("breast", 9)


def what_is_half_there(model: SettledModel) -> None:
    model.write("contributions/half/card.toml", b"")
    model.git("add", "--all")
    model.git("commit", "--quiet", "-m", "Half")
    model.stop("merge", "lung")


def no_model_there(model: SettledModel) -> None:
    model.git("switch", "--quiet", "lung")
    model.write("forge-item.json", b"{}")
    model.commit("Spoil it")
    model.git("switch", "--quiet", "main")
    model.stop("merge", "lung")


def detached(model: SettledModel) -> None:
    model.git("switch", "--quiet", "--detach", "main")
    model.stop("merge", "lung")


def change(model: SettledModel, branch: str, old: str, new: str) -> None:
    """Another line of forge.toml on a branch; the forge item follows where it has to."""
    model.git("switch", "--quiet", branch)
    path = model.top / "forge.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new).replace('per = "module"', 'per = "contribution"'))
    model.write("forge-item.json", (model.top / "forge-item.json").read_bytes())
    if "strategy" in old:
        from dataclasses import replace

        from forge.repo.items import read_item

        model.write_item(replace(read_item(model.repo, None), strategy=new.split('"')[1]))
    model.commit("Change a setting")


@pytest.mark.parametrize(
    ("stop", "first"),
    [
        (merge("lung"), "git forge resolve"),
        (detached, "git forge resolve"),
        (on_lung("merge", "other"), "git forge resolve --ours  # or --theirs"),
        (on_lung("cherry-pick", "other"), "git forge resolve --theirs  # or --ours"),
        (on_lung("rebase", "other"), "git forge resolve --theirs  # or --ours"),
        (on_lung("merge", "--squash", "other"), "git forge resolve --ours  # or --theirs"),
        (strategies, "git forge resolve --strategy mixture-output  # or --strategy fusion"),
        (
            strategies_and_contributions,
            "git forge resolve --strategy mixture-output --ours  # or --strategy fusion, --theirs",
        ),
        (other_settings, "git add forge.toml  # once it is right"),
        (a_readme_besides, "git forge resolve"),
        (a_pick_that_is_there, "git cherry-pick --skip"),
        (staged_in_a_rebase, "git add --update  # or git restore: a rebase goes on without unstaged changes only"),
        (an_unforged_merge, "git add "),
        (what_is_half_there, "git rm -r contributions/half  # or git add what it lacks: "),
        (no_model_there, "git merge --abort"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_every_step_works(settled: SettledModel, stop: Stop, first: str) -> None:
    stop(settled)
    assert find_status(settled.repo).next_steps[0].startswith(first)
    shown = ok(settled, "status")
    assert first in shown and "`git forge commit` folds" not in shown
    done = follow(settled)
    status = find_status(settled.repo)
    assert status.operation is None and status.unmerged == () and status.head_problems == (), done
    if settled.git("status", "--porcelain"):  # as after a squash
        settled.git("commit", "--quiet", "-m", "The end")
    assert_whole(settled)


def test_all_that_has_to_be_decided_is_said_at_once(settled: SettledModel) -> None:
    strategies_and_contributions(settled)
    said = run(settled, "resolve")
    assert said.code == 1
    assert "forge.toml: ours has the strategy mixture-output, theirs fusion" in said.err
    assert "contributions/lung: ours added it, theirs added it" in said.err
    assert "git forge resolve (--strategy mixture-output | --strategy fusion) (--ours | --theirs)" in said.err
    assert "both sides changed this contribution" in run(settled, "resolve", "--strategy", "fusion").err
