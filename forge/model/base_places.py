"""Where a base is found: embedded, an open_clip name with a tag or a file, a folder in open_clip's layout, or the Hub.

Who may name such a place is not decided here: a place is loaded as it is given. What a forge.toml says is only a name;
a clone's own settings say which places it stands for (forge/operations/bases.py).
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forge.errors import ForgeError
from forge.model.base_config import CONFIG_NAME, FolderConfig, read_folder_config
from forge.model.fingerprint import RESIZING, unusual_resizing
from forge.model.hf_text import TOKENIZER_FILES

EMBEDDED = "embedded"
EMBEDDED_DIR = Path(__file__).parent / "embedded"
WEIGHTS_NAME = "open_clip_model.safetensors"
# open_clip's own way to name a repository of the Hugging Face Hub, with a revision or without.
_HUB = re.compile(r"hf-hub:([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w.-]+))?")
LOCAL = "local:"  # begins what forge.toml calls a base that is a folder of somebody's machine


_CONVERT = (
    "a base is open_clip_config.json and open_clip_model.safetensors; convert other weights once, on a machine you "
    "trust, with safetensors.torch.save_file, and name the folder"
)


def portable_name(place: str) -> str:
    """What forge.toml calls the base at a place: without the path, which is one machine's own.

    `local:NAME` of a folder, `NAME=FILE` or `NAME/TAG=FILE` with the file's name alone, anything else as it is.
    """
    name, path = _split(place)
    if path is None:
        return place
    return f"{name}={path.name}" if name else f"{LOCAL}{path.resolve().name or 'base'}"


def absolute_place(place: str) -> str:
    """The same place wherever it is asked for: a path in it in full."""
    name, path = _split(place)
    if path is None:
        return place
    return f"{name}={path.resolve()}" if name else str(path.resolve())


def path_in(place: str) -> Path | None:
    """The path that a place holds, None where it holds none that exists."""
    return _split(place)[1]


def _split(place: str) -> tuple[str, Path | None]:
    """(name, path) of NAME=FILE, ("", path) of a folder, (place, None) of what is on no disk."""
    if place == EMBEDDED:
        return place, None
    folder = Path(place).expanduser()
    if folder.is_dir():
        return "", folder
    name, equals, file = place.partition("=")
    return (name, Path(file).expanduser()) if equals else (place, None)


@dataclass(frozen=True)
class Source:
    """Where a base comes from: open_clip's name for its architecture, its configuration and its weights.

    folder: its checked configuration, where it is a folder, whose architecture open_clip has no name for.
    """

    name: str
    config: dict[str, Any]
    weights: Path
    bpe_path: Path | None = None
    preprocess: dict[str, Any] = field(default_factory=dict)
    quick_gelu: bool = False
    tag: str = ""
    folder: FolderConfig | None = None


def locate(place: str) -> Source:
    """The parts of the base at a place. Raises ForgeError where there is none, or it is not safetensors."""
    name, path = _split(place)
    if place == EMBEDDED or (path is not None and not name):
        return _locate_folder(path or EMBEDDED_DIR)
    if path is not None:
        name, _, tag = name.partition("/")
        if tag:
            return _tagged(name, tag, _preset(name, tag), path)
        return Source(name, _architecture(name), _checkpoint(path))
    if place.endswith((".safetensors", ".pt", ".bin", ".pth")):
        raise ForgeError(
            f"a checkpoint alone does not say which architecture it is: {place}",
            hint=f"name it: --base ViT-B-16/openai={place}, or give a folder with {CONFIG_NAME}",
        )
    if (hub := _HUB.fullmatch(place)) is not None:
        return _locate_folder(_fetched(place, *hub.groups()))
    if "/" in place and not place.startswith(("/", ".", "~")):
        name, _, tag = place.rpartition("/")
        return _pretrained(name, tag)
    raise ForgeError(
        f"no base called {place!r}: it is neither a folder nor NAME/TAG nor NAME=FILE",
        hint="try --base embedded, --base ViT-B-16/openai, or a folder with open_clip_config.json",
    )


def _locate_folder(folder: Path) -> Source:
    settings = read_folder_config(folder)
    return Source(
        f"the folder {folder}",
        settings.config,
        _checkpoint(folder / WEIGHTS_NAME),
        settings.bpe_path,
        settings.preprocess,
        folder=settings,
    )


def _fetched(place: str, repository: str, revision: str | None) -> Path:
    """The folder that the Hub's own cache keeps a repository in, with the files of one revision that a base may have.

    Fetched are the configuration, safetensors and tokenizer files, none of which is code; what is in the cache is not
    asked for again where HF_HUB_OFFLINE is set.
    """
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def fetch(name: str, revision: str | None) -> Path:
        try:
            return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision))
        except LocalEntryNotFoundError:  # there is no network, and so no saying what is there
            raise
        except EntryNotFoundError as error:
            raise ForgeError(f"{place} has no {name}", hint=_CONVERT) from error

    try:
        folder = fetch(CONFIG_NAME, revision).parent
        fetched = folder.name  # so that all files are of one revision, whatever is pushed meanwhile
        fetch(WEIGHTS_NAME, fetched)
        if read_folder_config(folder).tokenizer_json:
            for name in TOKENIZER_FILES:
                with suppress(ForgeError):  # not every tokeniser has all of them; which is missing is told in the end
                    fetch(name, fetched)
    except ForgeError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ForgeError(
            f"{place} could not be fetched: {reason}",
            hint=f"where there is a network: hf download {repository} --local-dir FOLDER; then name the FOLDER here",
        ) from error
    return folder


def _architecture(name: str) -> dict[str, Any]:
    import open_clip

    # open_clip would ask the network about "hf-hub:..." and read any folder called "local-dir:...".
    config: dict[str, Any] | None = None if ":" in name else open_clip.get_model_config(name)
    if config is None:
        raise ForgeError(
            f"open_clip knows no architecture called {name!r}",
            hint="python -c 'import open_clip; print(open_clip.list_models())' lists them",
        )
    return config


def _checkpoint(path: Path) -> Path:
    if not path.is_file():
        raise ForgeError(f"the base's weights are missing: {path}", hint=_CONVERT)
    if path.suffix != ".safetensors":
        raise ForgeError(
            f"{path} is not safetensors; other checkpoint formats can run code when they are opened",
            hint=_CONVERT,
        )
    return path


def _pretrained(name: str, tag: str) -> Source:
    import open_clip

    preset = _preset(name, tag)
    try:
        path = Path(open_clip.download_pretrained(preset))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ForgeError(
            f"the weights of {name}/{tag} could not be fetched: {reason}",
            hint=f"fetch them where there is a network, then name them: {name}/{tag}=FILE.safetensors",
        ) from error
    return _tagged(name, tag, preset, path)


def _preset(name: str, tag: str) -> dict[str, Any]:
    """What open_clip knows of a tag: where its weights are, its activation and its pixels."""
    import open_clip

    _architecture(name)
    preset: dict[str, Any] = open_clip.get_pretrained_cfg(name, tag)
    if not preset:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise ForgeError(f"open_clip has no pretrained tag {tag!r} for {name}", hint=f"known tags: {known}")
    return preset


def _tagged(name: str, tag: str, preset: dict[str, Any], weights: Path) -> Source:
    """The source of a tag, wherever its weights are: what they do not show comes from the tag."""
    config = _architecture(name)
    quick_gelu = bool(preset.get("quick_gelu"))
    if quick_gelu:
        config["quick_gelu"] = True  # the tag's activation, not the name's: an export must say so
    known = {key: preset[key] for key in ("mean", "std", *RESIZING) if key in preset}
    return Source(name, config, _checkpoint(weights), preprocess=known, quick_gelu=quick_gelu, tag=tag)


def resizes_as_named(reference: str, source: Source) -> bool | None:
    """Whether a base resizes pictures as the one that forge.toml calls `reference`; None where that does not say.

    Before resizing was part of fingerprints, NAME=FILE and the embedded base knew open_clip's default way alone, and
    a tag brought its own.
    """
    import open_clip

    name, path = _split(reference)
    name, _, tag = name.partition("=")[0].partition("/")
    if path is not None and not name:
        return None
    if reference == EMBEDDED or ("=" in reference and not tag and name in open_clip.list_models()):
        return not unusual_resizing(source.preprocess)
    preset = open_clip.get_pretrained_cfg(name, tag) if tag and "/" not in tag else None
    return unusual_resizing(preset) == unusual_resizing(source.preprocess) if preset else None
