"""git forge evaluate: ACC and AUC of a version of the model on real images."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("evaluate")
@click.argument("rev", default="HEAD")
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Image folder (one sub-folder a class) or .npz."
)
@click.option("--contribution", metavar="NAME", help="That contribution alone, at coefficient 1.")
@click.option("--labels", multiple=True, metavar="TEXT", help="A label text per class, in the classes' sorted order.")
@click.option("--json", "as_json", is_flag=True)
def command(rev: str, data: Path, contribution: str | None, labels: tuple[str, ...], as_json: bool) -> None:
    """Measure the model of REV (HEAD) on labelled images that it has not seen.

    ACC is the share of right answers; AUC is one-vs-rest, averaged over the classes. A REV whose forge item is
    empty is the base itself.
    """
    from dataclasses import asdict

    from forge.console import emit_json, print_table, track
    from forge.operations.loading import blob_reader, load_model
    from forge.operations.task_labels import labels_for, labels_of
    from forge.repo.git import find_repository
    from forge.repo.places import read_item, read_settings_of

    repo = find_repository()
    limits = read_settings_of(repo, rev).limits
    item = read_item(repo, rev)
    read = blob_reader(repo, limits)
    own = labels_of(item, contribution, read, limits) if contribution else ()

    from forge.model.images import as_task, load_images
    from forge.model.scoring import evaluate

    loaded = load_model(repo, rev, limits, contribution=contribution)
    real = load_images(
        data, loaded.base, split="test", progress=lambda items, total: track(items, total, "reading images")
    )
    texts = labels_for(item, labels, own, real.classes, str(data))
    measured = evaluate(loaded.base, loaded.delta, as_task(real, loaded.base, "", texts))
    what = f"{rev}: {contribution} alone" if contribution else rev
    if as_json:
        emit_json({"rev": rev, "contribution": contribution, "labels": list(texts), **asdict(measured)})
        return
    auc = "-" if measured.auc is None else f"{measured.auc:.3f}"
    row = [what, measured.images, f"{measured.accuracy:.3f}", auc, f"{measured.cross_entropy:.3f}"]
    print_table(["model", "images", "ACC", "AUC", "cross-entropy"], [row], right={1, 2, 3, 4})
