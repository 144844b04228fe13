"""Names of files and folders in data sets: pictures, splits, what lies there by accident, and the order of classes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

PICTURES = frozenset(
    [
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".jif",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".webp",
        ".gif",
        ".jp2",
        ".j2k",
        ".jpx",
        ".jpf",
        ".pbm",
        ".pgm",
        ".ppm",
        ".pnm",
        ".tga",
        ".avif",
    ]
)
DICOM = frozenset({".dcm", ".dicom", ".ima"})

# What programs leave behind, by its name in lower case; whatever starts with a dot is that as well.
JUNK_FOLDERS = frozenset(
    {"__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found", "system volume information",
     "__pycache__"}
)  # fmt: skip
JUNK_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "dicomdir"})

# What tells about pictures and is none: descriptions, lists, annotations, checksums, scripts.
DOCUMENTS = frozenset(
    [
        ".txt",
        ".md",
        ".rst",
        ".csv",
        ".tsv",
        ".json",
        ".jsonl",
        ".xml",
        ".yaml",
        ".yml",
        ".toml",
        ".ini",
        ".cfg",
        ".log",
        ".pdf",
        ".html",
        ".htm",
        ".doc",
        ".docx",
        ".odt",
        ".rtf",
        ".xls",
        ".xlsx",
        ".ods",
        ".md5",
        ".sha1",
        ".sha256",
        ".bib",
        ".py",
        ".sh",
        ".r",
        ".m",
        ".ipynb",
        ".geojson",
    ]
)
DOCUMENT_NAMES = frozenset(
    {"readme", "license", "licence", "changelog", "citation", "authors", "md5sums", "sha256sums"}
)

SPLITS = ("train", "val", "test")
_SPELLINGS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "dev"),
    "test": ("test", "testing", "tst"),
}
_SPLIT_OF = {spelling: split for split, spellings in _SPELLINGS.items() for spelling in spellings}
_AROUND_A_SPLIT = re.compile(r"(data|dataset|set|split|images?|imgs?|folder|samples?)")


def split_called(name: str) -> str | None:
    """train, val or test where that is what a folder or a cell of a table is called, in any usual spelling.

    Train, TESTING, "training set", val_images and 01-test are; a class that only has such a word in it is not.
    """
    letters = [word for word in re.split(r"[\W\d_]+", unicodedata.normalize("NFKC", name).casefold()) if word]
    words = [word for word in letters if not _AROUND_A_SPLIT.fullmatch(word)]
    if len(words) != 1:
        return None
    joined = re.fullmatch(rf"(.+?){_AROUND_A_SPLIT.pattern}", words[0])
    return _SPLIT_OF.get(words[0]) or (_SPLIT_OF.get(joined[1]) if joined else None)


def is_junk_folder(name: str) -> bool:
    """Whether a folder holds what programs put there, withdrawn pictures and thumbnails among it."""
    return name.startswith(".") or name.casefold() in JUNK_FOLDERS


def sorted_classes(names: Iterable[str]) -> list[str]:
    """Names of classes in order: as numbers where all of them are whole numbers, else as texts."""
    classes = list(names)
    if all(is_number(name) for name in classes):
        return sorted(classes, key=lambda name: (int(name), name))
    return sorted(classes)


def is_number(text: str) -> bool:
    """Whether a text is nothing but a whole number."""
    return re.fullmatch(r"\s*[-+]?\d{1,18}\s*", text) is not None
