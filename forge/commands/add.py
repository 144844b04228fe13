"""git forge add: take in a contribution that was trained elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from forge.console import say


@click.command("add")
@click.argument("name")
@click.option(
    "--adapter",
    type=click.Path(path_type=Path),
    required=True,
    help="PEFT folder: adapter_config.json, adapter_model.safetensors.",
)
@click.option(
    "--distilled", type=click.Path(path_type=Path), required=True, help="distilled.safetensors of the same task."
)
@click.option(
    "--labels",
    multiple=True,
    metavar="TEXT",
    help="Label texts in the order of the class numbers. [default: the distilled set's]",
)
@click.option("--task", metavar="TEXT", help="What the task is called. [default: the distilled set's]")
@click.option("--replace", "replacing", is_flag=True, help="Replace contributions/NAME if it is there.")
def command(
    name: str, adapter: Path, distilled: Path, labels: tuple[str, ...], task: str | None, replacing: bool
) -> None:
    """Check that an adapter fits this repository's base, and put it into contributions/NAME.

    One that was trained with transformers, open_clip or timm on the same CLIP is renamed, which is exact.
    A card.toml in the adapter's folder is taken over. Nothing is written where anything is wrong.
    """
    from dataclasses import replace

    from forge.data.matching import KnownTask, check_texts, differ
    from forge.errors import ForgeError
    from forge.formats.distilled import check_distilled, relabelled
    from forge.formats.safetensors import canonicalise
    from forge.git.running import find_repository
    from forge.operations.bases import load_repository_base
    from forge.operations.contributing import (
        adapter_in_own_names,
        contribution_folder,
        doubled_in_work_tree,
        read_elsewhere,
        write_files,
    )
    from forge.operations.loading import load_adapter, load_distilled
    from forge.recipe.card import Card, check_labels, read_card, to_toml
    from forge.recipe.layout import ADAPTER_FILE, CARD_FILE, CONFIG_FILE, DISTILLED_FILE, path_of
    from forge.repo.leftovers import alone_in_work_tree
    from forge.repo.locks import contribution_lock, only_one
    from forge.repo.made_with import KEY, made_with_another
    from forge.repo.settings_file import load_settings
    from forge.text import same_labels

    repo = find_repository()
    settings = load_settings(repo.top)
    click.get_current_context().with_resource(only_one(contribution_lock(repo, name), f"git forge add {name}"))
    folder = contribution_folder(repo, name)
    if folder.exists() and not replacing:
        raise ForgeError(f"{path_of(name)} is there already", hint="choose another NAME, or give --replace")
    limit = settings.limits.file_bytes
    config = read_elsewhere(adapter / CONFIG_FILE, limit)
    weights = b"".join(canonicalise(read_elsewhere(adapter / ADAPTER_FILE, limit), str(adapter / ADAPTER_FILE)))
    images = b"".join(canonicalise(read_elsewhere(distilled, limit), str(distilled)))
    view = check_distilled(images, str(distilled), settings.limits.distilled_images)
    chosen = check_labels(labels, "--labels") if labels else view.labels
    if len(chosen) != len(view.labels):
        raise ForgeError(
            f"{distilled} has {len(view.labels)} classes, but {len(chosen)} --labels were given",
            hint=f"its own labels are: {', '.join(view.labels)}",
        )
    check_texts(chosen, view.labels, str(distilled))
    called = task or view.task
    card_file = adapter / CARD_FILE
    card_text = read_elsewhere(card_file, limit) if card_file.is_file() else None
    card = read_card(card_text, str(card_file)) if card_text is not None else None
    if card is not None and card.base.fingerprint != settings.base.fingerprint:
        raise ForgeError(
            f"{card_file}: this adapter was trained on another base: {card.base.reference} "
            f"({card.base.fingerprint}), not on {settings.base.reference} ({settings.base.fingerprint})",
            hint="train it again on this repository's base",
        )
    if card is not None and not labels and same_labels(card.labels) != same_labels(chosen):
        raise differ(str(distilled), chosen, [KnownTask(card.labels)], f"{card_file} has the labels", "--labels TEXT")

    from forge.model.adapters import parameter_count
    from forge.model.label_texts import check_label_texts

    base = load_repository_base(repo, settings.base)
    config, weights, spelling = adapter_in_own_names(base, config, weights, str(adapter))
    for label, read in check_label_texts(base, chosen, str(distilled)).items():
        say(f"label cut: of {label!r} the base reads {read!r}", err=True)
    parameters = parameter_count(load_adapter(base, config, weights, str(adapter)))
    load_distilled(base, images, str(distilled), settings.limits)
    fresh = Card(called, chosen, settings.base)
    if card is not None:
        classes = dict(zip(card.labels, card.classes, strict=False))
        ordered = tuple(classes[label] for label in chosen if label in classes)
        fresh = replace(card, task=called, labels=chosen, classes=ordered if len(ordered) == len(chosen) else ())
    files = {
        CONFIG_FILE: config,
        ADAPTER_FILE: weights,
        DISTILLED_FILE: relabelled(images, called, chosen, str(distilled)),
        CARD_FILE: to_toml(fresh, (card_text or b"").decode()).encode(),
    }
    if made_with_another(fresh, weights, str(adapter)):
        raise ForgeError(
            f"{distilled} was made with another adapter than {adapter}, says {card_file}",
            hint=f"distil again; or, if these images are to stay, take the line {KEY} out of its [distillation]",
        )
    for problem in doubled_in_work_tree(repo, name, files):
        raise ForgeError(f"{problem}: it would count more than once", hint="choose the NAME that it has already")
    with alone_in_work_tree(repo, f"git forge add {name}", wait=True):
        write_files(folder, files)
    say(f"Took {parameters:,} parameters and {view.images} distilled images into {path_of(name)}.")
    if spelling is not None:
        say(f"Its modules had the names of {spelling}; the contribution has those of this base, and the same values.")
    say("Next: git forge commit")
