"""Makes the embedded base's small BPE file out of open_clip's own: `python -m examples.generated.vocabulary FILE`.

The file has open_clip's format (gzip; one header line, then one merge a line, no newline at the end), so that its
SimpleTokenizer reads it as it is. Kept are the first merges and those that the captions' words go through; any other
word falls back to smaller pieces, in the end to bytes. A kept word is cut as by the full file.
"""

from __future__ import annotations

import gzip
import itertools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from examples.generated.captioned import captioned_images
from examples.generated.tasks import TASKS, task_labels

FIRST_MERGES: Final = 600
HEADER: Final = "#version: 0.2 the first merges of open_clip's bpe_simple_vocab_16e6 and those of the captions"
# Words that people may use in labels although no caption has them.
_LABEL_TEXT: Final = """
a an the of in on with and or no not without image picture photo slide patch scan stained tissue tissues cell cells
tumor tumors tumour tumours cancer carcinoma carcinomas adenocarcinoma adenocarcinomas squamous benign malignant normal
abnormal healthy diseased positive negative lesion lesions polyp polyps adenoma inflammation inflamed metastasis
lymph node nodes lymphocyte lymphocytes stroma mucosa mucus muscle fat debris background nuclei nucleus gland glands
breast lung colon skin liver kidney brain prostate stomach pneumonia x ray chest retina melanoma mild moderate severe
low high grade type class invasive ductal lobular papillary fibroadenoma digit number handwritten
"""
LABEL_WORDS: Final = tuple(_LABEL_TEXT.split())


def caption_words() -> list[str]:
    """Every word the tokenizer is made for: of 20,000 captions, of the tasks' label texts and LABEL_WORDS; sorted."""
    texts = [*captioned_images(seed=0, count=20_000).captions, *LABEL_WORDS]
    texts += [label for name in TASKS for label in task_labels(name)]
    return sorted({word for text in texts for word in text.lower().split()})


def merges_of(word: str, ranks: dict[tuple[str, str], int]) -> set[tuple[str, str]]:
    """The merges that byte-pair encoding applies to one word of plain letters."""
    pieces = [*word[:-1], word[-1] + "</w>"]
    used: set[tuple[str, str]] = set()
    while len(pieces) > 1:
        pairs = list(itertools.pairwise(pieces))
        best = min(pairs, key=lambda pair: ranks.get(pair, sys.maxsize))
        if best not in ranks:
            break
        used.add(best)
        joined: list[str] = []
        i = 0
        while i < len(pieces):
            if i + 1 < len(pieces) and (pieces[i], pieces[i + 1]) == best:
                joined.append(pieces[i] + pieces[i + 1])
                i += 2
            else:
                joined.append(pieces[i])
                i += 1
        pieces = joined
    return used


def chosen_merges(words: Iterable[str], full: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first merges and those of the words, in the full file's order."""
    ranks = {pair: rank for rank, pair in enumerate(full)}
    keep = set(full[:FIRST_MERGES])
    for word in words:
        keep |= merges_of(word, ranks)
    return sorted(keep, key=ranks.__getitem__)


def vocabulary_size(merges: int) -> int:
    """Tokens of open_clip's SimpleTokenizer: bytes, bytes that end a word, merges, start and end of text."""
    return 2 * 256 + merges + 2


def write_vocabulary(path: Path) -> int:
    """Write the BPE file, the same bytes every time, and return the vocabulary's size."""
    from open_clip.tokenizer import default_bpe

    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode("utf-8").split("\n")
    pairs = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    full = [(pair[0], pair[1]) for pair in pairs]
    merges = chosen_merges(caption_words(), full)
    text = "\n".join([HEADER, *(f"{first} {second}" for first, second in merges)])
    path.write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
    return vocabulary_size(len(merges))


if __name__ == "__main__":
    size = write_vocabulary(Path(sys.argv[1]))
    print(f"{sys.argv[1]}: {size} tokens")
