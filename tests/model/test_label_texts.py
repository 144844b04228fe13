"""Labels as a base reads them: rows of tokens, cut at its context."""

from __future__ import annotations

import unicodedata

import pytest

from forge.errors import ForgeError
from forge.model.base import BaseModel
from forge.model.label_texts import check_label_texts

LONG = "a histological section of the breast stained with haematoxylin and eosin, invasive carcinoma, "


@pytest.mark.parametrize(
    "pair",
    [
        (LONG + "ductal", LONG + "lobular"),
        ("乳腺组织病理学图像浸润性导管癌", "乳腺组织病理学图像浸润性小叶癌"),
        ("bösartig", unicodedata.normalize("NFD", "bösartig")),
        ("H&E", "H&amp;E"),
        ("Benign", "benign "),
    ],
    ids=["cut", "Chinese", "accents", "entities", "case"],
)
def test_texts_of_the_same_tokens(base: BaseModel, pair: tuple[str, str]) -> None:
    """What the tokeniser itself gives is the oracle."""
    rows = base.tokenizer(list(pair))
    assert (rows[0] == rows[1]).all()
    with pytest.raises(ForgeError, match="the same text to this base, which reads 16 tokens"):
        check_label_texts(base, ["other", *pair], "here")


def test_what_is_cut_where(base: BaseModel) -> None:
    short, exact = "benign", " ".join(["cell"] * 14)  # 14 tokens between the two that mark start and end
    found = check_label_texts(base, [short, exact, LONG], "here")
    assert set(found) == {LONG} and LONG.startswith(found[LONG])
    assert (base.tokenizer([found[LONG]]) == base.tokenizer([LONG])).all()
    assert (base.tokenizer([found[LONG][:-1]]) != base.tokenizer([LONG])).any()
