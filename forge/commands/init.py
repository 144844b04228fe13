"""git forge init: make the current git repository a model repository."""

from __future__ import annotations

import os

import click

from forge.console import say


@click.command("init")
@click.option(
    "--base",
    "reference",
    default="embedded",
    show_default=True,
    metavar="REF",
    help="NAME/TAG of open_clip, NAME/TAG=FILE.safetensors, a folder with open_clip_config.json, hf-hub:ORG/NAME, or "
    "embedded.",
)
@click.option(
    "--strategy",
    type=click.Choice(["mixture", "mixture-output", "fusion"]),
    default="mixture",
    show_default=True,
    help="Add up what the adapters change, or what whole models say, or the adapters' factors.",
)
@click.option(
    "--settings",
    "preset",
    type=click.Choice(["best", "paper"]),
    default="best",
    show_default=True,
    help="How coefficients are searched: as does best here, or as in the MedForge paper.",
)
@click.option(
    "--task-aware", is_flag=True, help="Search coefficients for every task's labels, besides the shared ones."
)
@click.option(
    "--license", "license_", metavar="EXPR", help="The model's licence, an SPDX expression such as Apache-2.0."
)
def command(reference: str, strategy: str, preset: str, task_aware: bool, license_: str | None) -> None:
    """Write forge.toml, an empty forge item and .gitattributes, set up the clone, and commit.

    The base is the frozen CLIP model that all contributions share; its fingerprint goes into forge.toml, and so
    do the settings, where they can be changed at any time.
    """
    from forge.clone import setup as clone_setup
    from forge.clone.stored import commit, stage
    from forge.errors import ForgeError
    from forge.git.files import write_whole
    from forge.git.running import find_repository, git, git_succeeds, git_text
    from forge.operations.bases import allow_base, forbid_base
    from forge.recipe.item import Base, empty
    from forge.recipe.item_text import to_json
    from forge.recipe.layout import ATTRIBUTES_FILE, ITEM_FILE, SETTINGS_FILE
    from forge.recipe.licences import check_license
    from forge.recipe.settings import choose_settings, to_toml
    from forge.repo.storage import MAX_ATTRIBUTES

    repo = find_repository()
    if git_text(repo, "rev-parse", "--is-bare-repository") == "true":
        raise ForgeError(f"{repo.top} is a bare repository", hint="run git forge init in a clone, then push")
    for name in (SETTINGS_FILE, ITEM_FILE):
        if os.path.lexists(repo.top / name):
            raise ForgeError(
                f"{name} is there already: this is a model repository", hint="see it with git forge status"
            )
    if git_text(repo, "status", "--porcelain", "--", ATTRIBUTES_FILE):
        raise ForgeError(
            f"{ATTRIBUTES_FILE} has changes that are not committed", hint=f"commit {ATTRIBUTES_FILE} first"
        )
    if license_ is not None:
        check_license(license_, "--license")
    git(repo, "var", "GIT_COMMITTER_IDENT")  # no name and address: say so before anything is written

    from forge.model.base import load_base
    from forge.model.base_places import portable_name

    base = load_base(reference)
    allowed = allow_base(repo, reference)
    reference = portable_name(reference)
    identity = Base(reference, base.fingerprint)
    settings = choose_settings(identity, preset, strategy, task_aware, license_)
    head = git_text(repo, "rev-parse", "--verify", "--quiet", "HEAD", check=False) or None
    had_attributes = os.path.lexists(repo.top / ATTRIBUTES_FILE)
    was_set_up = clone_setup.is_installed(repo)
    paths = [SETTINGS_FILE, ITEM_FILE, ATTRIBUTES_FILE]
    try:
        write_whole(repo.top / SETTINGS_FILE, to_toml(settings).encode())
        write_whole(repo.top / ITEM_FILE, to_json(empty(identity, strategy)).encode())
        clone_setup.add_attributes(repo)
        clone_setup.install(repo)
        stage(repo, paths, MAX_ATTRIBUTES)
        commit(repo, head, [f"Start a model on {reference}"], paths, "git forge init")
    except BaseException:
        if git_succeeds(repo, "rev-parse", "--verify", "--quiet", "HEAD"):
            git(repo, "reset", "--quiet", "--", *paths, check=False)
        else:
            git(repo, "rm", "--quiet", "--cached", "--force", "--ignore-unmatch", "--", *paths, check=False)
        (repo.top / SETTINGS_FILE).unlink(missing_ok=True)
        (repo.top / ITEM_FILE).unlink(missing_ok=True)
        if had_attributes:
            git(repo, "checkout", "--quiet", "--", ATTRIBUTES_FILE, check=False)
        else:
            (repo.top / ATTRIBUTES_FILE).unlink(missing_ok=True)
        if not was_set_up:
            clone_setup.uninstall(repo)
        if allowed is not None:
            forbid_base(repo, allowed)
        raise
    told = f"strategy {strategy}{', task-aware' if task_aware else ''}, {preset} settings"
    say(f"Started a model on {reference} ({base.fingerprint[:19]}…), {told}.")
    say(f"The base: {base.description}.")
    if allowed is not None:
        say(f"This clone finds the base at {allowed}; others say where they keep it: git config forge.base <PLACE>")
    say("Next: git switch -c my-hospital, then git forge train NAME --data FOLDER")
