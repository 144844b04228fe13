"""One walk sorts every entry: read, known junk or unexplained; nothing is left out in silence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forge.data.listing import ReadOptions, has_split, list_images, list_pictures
from forge.data.walk import walk
from forge.errors import ForgeError

SKIP = ReadOptions(skip_unreadable=True)


def touch(top: Path, *names: str, content: bytes = b"picture") -> Path:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content)
    return top


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return touch(tmp_path / "data", "benign/1.png", "benign/2.JFIF", "malignant/deep/er/3.tif", "malignant/4.dcm")


def test_every_entry_is_sorted(data: Path) -> None:
    touch(
        data, "benign/.ipynb_checkpoints/1.png", "malignant/.Trash-1000/files/9.png", "malignant/@eaDir/4.png/thumb.jpg"
    )
    touch(data, "__MACOSX/benign/._1.png", "benign/Thumbs.db", "benign/._1.png", "notes.txt", "benign/README", "a.csv")
    found = list_images(data)
    assert [path.name for path in found.files] == ["1.png", "2.JFIF", "4.dcm", "3.tif"]
    assert found.classes == ("benign", "malignant") and found.targets == (0, 0, 1, 1)
    assert found.left_out == {
        "in .ipynb_checkpoints": 1,
        "in .Trash-1000": 1,
        "in @eaDir": 1,
        "in __MACOSX": 1,
        "hidden or system files": 2,
        "documents": 3,
    }


@pytest.mark.parametrize("name", ["benign/5.heic", "benign/scan", "malignant/all.zip", "6.png", "benign/7.png.part"])
def test_what_nobody_explains_is_an_error_or_counted(data: Path, name: str) -> None:
    touch(data, name)
    with pytest.raises(ForgeError, match="1 file cannot be read as images") as caught:
        list_images(data)
    assert str(data / name) in caught.value.message and "--skip-unreadable" in (caught.value.hint or "")
    found = list_images(data, options=SKIP)
    assert sum(found.left_out.values()) == 1 and len(found.files) == 4


def test_many_of_them_are_named_and_counted(data: Path) -> None:
    touch(data, *(f"benign/slide{number}.svs" for number in range(50)))
    with pytest.raises(ForgeError, match=r"50 files .*slide0\.svs .* and 45 more"):
        list_images(data)


def test_dicom_without_a_suffix(data: Path) -> None:
    touch(data, "benign/1.2.840.113619.2", content=bytes(128) + b"DICM" + bytes(9))
    assert "1.2.840.113619.2" in [path.name for path in list_images(data).files]


def test_links(data: Path, tmp_path: Path) -> None:
    touch(tmp_path / "share", "5.png", "6.png")
    (data / "benign" / "linked").symlink_to(tmp_path / "share")
    (data / "benign" / "9.png").symlink_to(tmp_path / "share" / "5.png")
    assert [path.name for path in list_images(data).files[:5]] == ["1.png", "2.JFIF", "9.png", "5.png", "6.png"]
    (data / "benign" / "annexed.png").symlink_to(tmp_path / "unmounted" / "x.png")
    (data / "malignant" / "circle").symlink_to(data / "malignant")
    with pytest.raises(
        ForgeError, match=r"annexed\.png \(a link to nothing\).*circle \(a link to a folder around it\)"
    ):
        list_images(data)
    assert list_images(data, options=SKIP).left_out == {"a link to nothing": 1, "a link to a folder around it": 1}
    (data / "gone").symlink_to(tmp_path / "unmounted")
    with pytest.raises(ForgeError, match=r"gone \(a link to nothing\)"):
        list_images(data)


def test_what_is_no_plain_file(data: Path) -> None:
    os.mkfifo(data / "benign" / "pipe.png")
    with pytest.raises(ForgeError, match=r"pipe\.png \(no plain file\)"):
        list_images(data)


def test_a_class_of_nothing(data: Path) -> None:
    touch(data, "hollow/.DS_Store", "hollow/notes.txt")
    with pytest.raises(ForgeError, match="hollow holds no images") as caught:
        list_images(data)
    assert "remove" not in (caught.value.hint or "")


@pytest.mark.parametrize("names", [("Train", "Test", "Val"), ("training", "testing", "validation"), ("TRAIN", "TEST")])
def test_splits_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        touch(tmp_path, f"{name}/benign/1.png", f"{name}/malignant/2.png")
    found = list_images(tmp_path)
    assert found.classes == ("benign", "malignant") and all(names[0] in path.parts for path in found.files)
    assert found.left_out == {f"in {name} (another split)": 2 for name in names[1:]}
    assert [has_split(tmp_path, split) for split in ("train", "val", "test")] == [True, len(names) == 3, True]
    assert all(names[1] in path.parts for path in list_images(tmp_path, "test").files)


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    touch(tmp_path, "valid/1.png", "invalid/2.png")
    assert list_images(tmp_path).classes == ("invalid", "valid")


def test_splits_that_nobody_can_tell_apart(tmp_path: Path) -> None:
    touch(tmp_path / "twice", "train/a/1.png", "Training/a/2.png")
    with pytest.raises(ForgeError, match="two folders for train: Training and train"):
        list_images(tmp_path / "twice")
    touch(tmp_path / "beside", "train/a/1.png", "extra/a/2.png")
    with pytest.raises(ForgeError, match=r"extra \(lies beside train\)"):
        list_images(tmp_path / "beside")
    touch(tmp_path / "inside", "a/train/1.png", "a/test/2.png", "b/train/3.png")
    with pytest.raises(ForgeError, match="a holds the splits train, test"):
        list_images(tmp_path / "inside")


def test_patients_in_names(data: Path) -> None:
    found = list_images(data, options=ReadOptions(group_by=r"^(\d)\."))
    assert found.patients == ("1", "2", "4", "3")
    with pytest.raises(ForgeError, match=r"finds no patient in 2 of 4 names: .*3\.tif|2 of 4 names"):
        list_images(data, options=ReadOptions(group_by=r"[12]\."))
    with pytest.raises(ForgeError, match="is no regular expression"):
        list_images(data, options=ReadOptions(group_by="("))


def test_pictures_of_a_folder_or_a_table(data: Path) -> None:
    assert list_pictures(data, ReadOptions())[0] == sorted(walk(data).pictures)
    (data / "some.csv").write_text("path\nbenign/1.png\nmalignant/4.dcm\n")
    assert list_pictures(data / "some.csv", ReadOptions())[0] == [data / "benign/1.png", data / "malignant/4.dcm"]
    (data / "some.csv").write_text("path\nbenign/1.png\nbenign/none.png\n")
    with pytest.raises(ForgeError, match=r"none\.png \(is not there\)"):
        list_pictures(data / "some.csv", ReadOptions())
    (data / "empty").mkdir()
    with pytest.raises(ForgeError, match="empty holds no images"):
        list_pictures(data / "empty", ReadOptions())


def test_the_card_learns_no_name_of_a_file_or_folder(tmp_path: Path) -> None:
    """Whatever is left out: what a card is told of it is one of these."""
    touch(tmp_path, "Train/benign/1.png", "Train/malignant/2.png", "MUELLER test/benign/1.png", "MUELLER old/3.png")
    touch(tmp_path, "Train/benign/@eaDir/MUELLER.png", "Train/benign/scan.MUELLER", "Train/benign/.MUELLER")
    touch(tmp_path, "Train/MUELLER.png", "Train/benign/notes.txt")
    (tmp_path / "Train" / "benign" / "MUELLER.png").symlink_to("nowhere")
    (tmp_path / "MUELLER test").rename(tmp_path / "test-MUELLER")  # beside the splits, and none of them
    touch(tmp_path, "Test/benign/1.png", "Test/malignant/1.png")
    told = {reason.general: count for reason, count in list_images(tmp_path, options=SKIP).left_out.items()}
    assert told == {
        "a link to nothing": 1,
        "beside the splits": 2,
        "documents": 1,
        "hidden or system files": 1,
        "in another split": 2,
        "in folders of programs": 1,
        "lies beside the classes, in none of them": 1,
        "no known image format": 1,
    }
