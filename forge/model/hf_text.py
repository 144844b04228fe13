"""Text towers and tokenisers of Hugging Face's that a base folder brings as data: a BERT's weights and tokenizer.json.

Nothing here goes by a name that a folder gives: transformers would look for it on the Hub, and could be told to run
code that comes with it. A BERT is built from its sizes in the weights, a tokeniser from the one file that tells all.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forge.errors import ForgeError

if TYPE_CHECKING:
    from torch import Tensor

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_FILES = (TOKENIZER_FILE, "tokenizer_config.json", "special_tokens_map.json")
MAX_TOKENIZER = 64 * 2**20  # bytes; SigLIP 2 has 34 MB
# Towers that are a BERT (the original one: 64 numbers a head, GELU, positions learnt), whatever its sizes.
BERTS = re.compile(
    r"((google-bert/)?bert-(base|large)-(un)?cased|microsoft/BiomedNLP-(BiomedBERT|PubMedBERT)-(base|large)-uncased-abstract"
    r"(-fulltext)?|emilyalsentzer/Bio_(Clinical|Discharge_Summary_)BERT|dmis-lab/biobert-[a-z0-9.-]+)"
)
_HEAD = 64


@dataclass(frozen=True)
class FolderTokenizer:
    """A tokenizer.json that cuts and fills up as open_clip's HFTokenizer has transformers do."""

    folder: Path
    tokenizer: Any
    clean: Any
    dropped: int | None

    def __call__(self, texts: list[str]) -> Tensor:
        """Token numbers [texts, context length]."""
        import torch

        encodings = self.tokenizer.encode_batch([self.clean(text) for text in texts])
        tokens = torch.tensor([each.ids for each in encodings], dtype=torch.int64)
        return tokens if self.dropped is None else tokens.masked_fill(tokens == self.dropped, 0)

    def save_pretrained(self, folder: str) -> None:
        """The files that this was read from, as they are."""
        for name in TOKENIZER_FILES:
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, Path(folder) / name)


def read_tokenizer(folder: Path, settings: Mapping[str, Any], context_length: int) -> FolderTokenizer:
    """The tokeniser in a base folder. Raises ForgeError naming the file that is missing or cannot be read."""
    from open_clip.tokenizer import get_clean_fn
    from tokenizers import Tokenizer

    file = folder / TOKENIZER_FILE
    if not file.is_file():
        raise ForgeError(
            f"{file} is missing: this base reads labels with another program's tokeniser, which must be beside it",
            hint="fetch the whole repository: hf download ORG/NAME --local-dir FOLDER",
        )
    if file.stat().st_size > MAX_TOKENIZER:
        raise ForgeError(f"{file} is larger than {MAX_TOKENIZER // 2**20} MiB", hint="fetch the base again")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except BaseException as error:  # what goes wrong in Rust is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ForgeError(f"{file} cannot be read as a tokeniser: {error}"[:500], hint="fetch the base again") from error
    pad = _special(folder, "pad_token") or (tokenizer.padding or {}).get("pad_token") or "[PAD]"
    number = tokenizer.token_to_id(pad)
    if number is None:
        raise ForgeError(f"{file} has no token {pad!r}, with which short labels are filled up", hint="fetch it again")
    for key in ("padding_side", "truncation_side"):
        if _config(folder).get(key, "right") != "right":
            raise ForgeError(f"{folder / TOKENIZER_FILES[1]}: {key} is not 'right', which is not supported")
    tokenizer.enable_truncation(context_length)
    tokenizer.enable_padding(length=context_length, pad_id=number, pad_token=pad)
    separator = tokenizer.token_to_id(_special(folder, "sep_token") or "[SEP]")
    clean = get_clean_fn(settings.get("clean", "whitespace"))
    return FolderTokenizer(folder, tokenizer, clean, separator if settings.get("strip_sep_token") else None)


def bert_text(shapes: Mapping[str, tuple[int, ...]], text: Mapping[str, Any], embed_dim: int, weights: Path) -> Any:
    """open_clip's wrapper of a BERT, whose sizes are those of the weights; with random weights."""
    from open_clip.hf_model import HFTextEncoder
    from transformers import BertConfig

    start = "text.transformer."
    try:
        vocabulary, width = shapes[f"{start}embeddings.word_embeddings.weight"]
        (positions, _), (types, _) = (
            shapes[f"{start}embeddings.{each}_embeddings.weight"] for each in ("position", "token_type")
        )
        inner, _ = shapes[f"{start}encoder.layer.0.intermediate.dense.weight"]
    except (KeyError, ValueError) as error:
        raise ForgeError(f"{weights} holds no BERT as its text tower: {error} is missing", hint=_SAFE) from None
    if width % _HEAD:
        raise ForgeError(f"{weights}: a BERT of {width} numbers a token has no heads of {_HEAD}")
    layers = {match[1] for name in shapes if (match := re.match(rf"{re.escape(start)}encoder\.layer\.(\d+)\.", name))}
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=len(layers),
        num_attention_heads=width // _HEAD,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        pad_token_id=0,
    )
    pooler = text.get("hf_pooler_type", "mean_pooler")
    encoder = HFTextEncoder(
        "", embed_dim, config=config, pooler_type=pooler, proj_type=text.get("hf_proj_type", "mlp"), pretrained=False
    )
    if pooler != "cls_pooler":
        encoder.transformer.pooler = None
    return encoder


def shapes_in(weights: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a safetensors file's tensors by name."""
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no dict)


def numbers_in(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many numbers tensors of these shapes hold."""
    return sum(math.prod(shape) for shape in shapes.values())


_SAFE = "the weights must be those of the model that open_clip_config.json describes"


def _config(folder: Path) -> Mapping[str, Any]:
    return _json(folder / TOKENIZER_FILES[1])


def _special(folder: Path, name: str) -> str | None:
    """A special token by what it is for, which transformers keeps in either of two files."""
    for file in TOKENIZER_FILES[1:]:
        value = _json(folder / file).get(name)
        token = value.get("content") if isinstance(value, dict) else value
        if isinstance(token, str) and token:
            return token
    return None


def _json(file: Path) -> Mapping[str, Any]:
    if not file.is_file() or file.stat().st_size > MAX_TOKENIZER:
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ForgeError(f"{file} cannot be read: {error}"[:500], hint="fetch the base again") from None
    return content if isinstance(content, dict) else {}
