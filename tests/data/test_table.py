"""A data set as a table of path, label, patient, split."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.data.listing import ReadOptions, has_split, list_images
from forge.errors import ForgeError

ROWS = [("1.png", "sick", "A", "train"), ("2.png", "well", "B", "Train"), ("3.png", "well", "C", "Test")]


def write(top: Path, text: str, name: str = "set.csv", encoding: str = "utf-8") -> Path:
    for number in range(1, 12):
        (top / f"{number}.png").write_bytes(b"picture")
    (top / name).write_text(text, encoding=encoding)
    return top / name


def rows_of(delimiter: str = ",", header: str = "path,label,patient,split") -> str:
    return "".join(delimiter.join(row) + "\n" for row in [tuple(header.split(",")), *ROWS])


@pytest.mark.parametrize(
    ("name", "delimiter", "encoding"),
    [("a.csv", ",", "utf-8"), ("a.csv", ";", "utf-8-sig"), ("a.tsv", "\t", "utf-8"), ("A.CSV", "\t", "utf-8")],
)
def test_a_table(tmp_path: Path, name: str, delimiter: str, encoding: str) -> None:
    path = write(tmp_path, rows_of(delimiter, "Path,LABEL,patient,split"), name, encoding)
    found = list_images(path)
    assert [file.name for file in found.files] == ["1.png", "2.png"]
    assert (found.classes, found.targets, found.patients) == (("sick", "well"), (0, 1), ("A", "B"))
    assert found.left_out == {"in test (another split)": 1}
    assert [has_split(path, split) for split in ("train", "val", "test")] == [True, False, True]
    assert list_images(path, "test").classes == ("well",)
    with pytest.raises(ForgeError, match="has train, test, but no val"):
        list_images(path, "val")


def test_without_splits_or_patients(tmp_path: Path) -> None:
    labels = "".join(f"{number}.png,{number}\n" for number in range(1, 12))
    found = list_images(write(tmp_path, "path,label\n" + labels), "test", ReadOptions(group_by=r"\d"))
    assert found.classes == tuple(map(str, range(1, 12)))
    assert found.patients is not None and found.patients[9] == "1"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("path,label\n", "names no images"),
        ("file,label\n1.png,a\n", "has no column path; it has: file, label"),
        ("path,class\n1.png,a\n", "has no column label"),
        ("path,label,label\n1.png,a,b\n", "has the column label twice"),
        ("path,label\n1.png,a\n1.png,b\n", r"line 3: .*1\.png is in line 2 as well"),
        ("path,label\n1.png,\n", "line 2: label is empty"),
        ("path,label\n1.png\n", "line 2: label is empty"),
        ("path,label,split\n1.png,a,later\n", "line 2: 'later' is no split"),
        ("path,label\n1.png,a\n99.png,b\n", r"99\.png \(is not there\)"),
        ('path,label\n"1.png,a\n', "line"),
        ("path,label,patient,split\n1.png,a,P,train\n2.png,a,P,test\n", r"1 patient\(s\) have images in more than one"),
    ],
)
def test_tables_that_are_wrong(tmp_path: Path, text: str, reason: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ForgeError, match=reason) as caught:
        list_images(path)
    assert str(path) in caught.value.message and caught.value.hint


def test_a_table_in_another_encoding(tmp_path: Path) -> None:
    path = write(tmp_path, "path,label\n1.png,bösartig\n", encoding="latin-1")
    with pytest.raises(ForgeError, match="is not UTF-8"):
        list_images(path)
