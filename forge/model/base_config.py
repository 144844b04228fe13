"""The configuration of a base that is a folder: only what a CLIP of known parts consists of, within bounded sizes.

A folder comes from somebody else. open_clip hands most of what stands in open_clip_config.json on: to transformers,
which can be told to run code that the folder brings, and to timm and the Hugging Face Hub, which download. So what is
not known here is refused by name, and the model is built from what was checked, not from the file. A tower of timm's is
one that the installed timm has by that name, without its weights; a text tower of transformers' is a BERT, built from
its weights; a tokeniser of another program is a tokenizer.json in the folder (hf_text.py).
"""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forge.errors import ForgeError
from forge.model.hf_text import BERTS

CONFIG_NAME = "open_clip_config.json"
MAX_CONFIG = 2**20  # bytes
MAX_BPE = 16 * 2**20  # bytes, also once unpacked; open_clip's own has 3.2 MB
MAX_LAYERS = 256
MAX_WIDTH = 2**15
MAX_SIDE = 4096  # pixels
MAX_VOCABULARY = 2**21
MAX_CONTEXT = 2**14  # tokens
# timm's towers with attention; none of these names leads to the Hub or to a folder.
TIMM_NAMES = re.compile(
    r"(vit|vitamin|eva|eva02|deit|deit3|beit|beitv2|swin|fastvit)_[a-z0-9_]{1,80}(\.[a-z0-9_]{1,80})?"
)

Check = Callable[[Any], bool]


@dataclass(frozen=True)
class FolderConfig:
    """config: model_cfg as it stands there. model: of it, the keywords of open_clip's CLIP. preprocess: of the images.

    tokenizer: keywords of SimpleTokenizer but for its BPE file, which is `bpe_path`, None for open_clip's own.
    bert: keys of text_cfg where the text tower is a BERT; `model` leaves them out. tokenizer_json: it reads the labels.
    """

    config: dict[str, Any]
    model: dict[str, Any]
    preprocess: dict[str, Any]
    tokenizer: dict[str, Any]
    bpe_path: Path | None
    custom_text: bool
    bert: dict[str, Any] | None = None
    tokenizer_json: bool = False


def read_folder_config(folder: Path) -> FolderConfig:
    """open_clip_config.json of a base that is a folder.

    Raises ForgeError naming the file and the key that no such CLIP has, a value that makes no sense or is beyond
    bounds, and a BPE file that is outside the folder or too large.
    """
    path = folder / CONFIG_NAME
    document = _read(path)
    _refuse_unknown(path, "", document, ("model_cfg", "preprocess_cfg"))
    model = _table(path, document, "model_cfg")
    preprocess = _table(path, document, "preprocess_cfg") if "preprocess_cfg" in document else {}
    _check(path, "preprocess_cfg", preprocess, _PREPROCESS)
    vision, text = _table(path, model, "vision_cfg"), dict(_table(path, model, "text_cfg"))
    others = {key: value for key, value in model.items() if key not in ("vision_cfg", "text_cfg")}
    _check(path, "model_cfg", others, _MODEL)
    _check(path, "vision_cfg", vision, _VISION)
    tokenizer = dict(_table(path, text, "tokenizer_kwargs")) if "tokenizer_kwargs" in text else {}
    text.pop("tokenizer_kwargs", None)
    _check(path, "text_cfg", text, _TEXT)
    _check(path, "tokenizer_kwargs", tokenizer, _TOKENIZER)
    if "embed_dim" not in others:
        raise ForgeError(f"{path}: model_cfg has no embed_dim", hint=_HINT)
    bpe = tokenizer.pop("bpe_path", None)
    custom_text = bool(others.pop("custom_text", False))
    vision = {key: value for key, value in vision.items() if key != "timm_model_pretrained"}
    tokenizer_json = text.pop("hf_tokenizer_name", None) is not None
    bert = None
    if "hf_model_name" in text:
        bert = {key: text.pop(key) for key in list(text) if key.startswith("hf_")}
        custom_text = tokenizer_json = True
    return FolderConfig(
        dict(model),
        {**others, "vision_cfg": dict(vision), "text_cfg": text},
        dict(preprocess),
        tokenizer,
        None if bpe is None else _bpe_file(folder, bpe, path),
        custom_text,
        bert,
        tokenizer_json,
    )


_HINT = (
    "a base that is a folder has a ViT of open_clip's or timm's, open_clip's text transformer or a BERT, and "
    "open_clip's BPE tokeniser or a tokenizer.json"
)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG:
            raise ForgeError(f"{path} is larger than {MAX_CONFIG // 2**20} MiB", hint=_HINT)
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ForgeError(
            f"{path} cannot be read as an open_clip configuration: {error}"[:500],
            hint="a base folder holds open_clip_config.json and open_clip_model.safetensors",
        ) from None
    if not isinstance(document, dict):
        raise ForgeError(f"{path} cannot be read as an open_clip configuration: it is no table", hint=_HINT)
    return document


def _table(path: Path, document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = document.get(key)
    if not isinstance(table, dict):
        raise ForgeError(f"{path} cannot be read as an open_clip configuration: {key} is no table", hint=_HINT)
    return table


def _refuse_unknown(path: Path, where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            inside = f" in {where}" if where else ""
            raise ForgeError(f"{path}: the key {key[:80]!r}{inside} is not one that a base may set", hint=_HINT)


def _check(path: Path, where: str, table: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    _refuse_unknown(path, where, table, tuple(checks))
    for key, value in table.items():
        if not checks[key](value):
            raise ForgeError(f"{path}: {key} in {where} cannot be {str(value)[:80]!r}", hint=_HINT)


def _bpe_file(folder: Path, name: str, path: Path) -> Path:
    """The BPE file beside the configuration; only its name counts, since an exported folder may have been moved."""
    file = folder / Path(name).name
    if not file.is_file():
        raise ForgeError(f"{path}: bpe_path names {Path(name).name!r}, which is no file in that folder", hint=_HINT)
    try:
        with gzip.open(file) as stream:
            size = len(stream.read(MAX_BPE + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise ForgeError(f"{file} cannot be read as a BPE vocabulary: {error}", hint="fetch the base again") from None
    if size > MAX_BPE:
        raise ForgeError(f"{file} is larger than {MAX_BPE // 2**20} MiB once unpacked", hint=_HINT)
    return file.resolve()


def _whole(least: int, most: int) -> Check:
    return lambda value: type(value) is int and least <= value <= most


def _real(least: float, most: float) -> Check:
    return lambda value: (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and least <= value <= most
    )


def _one_of(*values: object) -> Check:
    return lambda value: any(value is each or (isinstance(value, str) and value == each) for each in values)


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _list_of(count: int, check: Check) -> Check:
    return lambda value: isinstance(value, list) and len(value) == count and all(map(check, value))


def _either(*checks: Check) -> Check:
    return lambda value: any(check(value) for check in checks)


def _options(**checks: Check) -> Check:
    return lambda value: (
        isinstance(value, dict) and all(key in checks and checks[key](each) for key, each in value.items())
    )


_yes_or_no = _one_of(True, False)
_side = _whole(1, MAX_SIDE)
_size = _either(_side, _list_of(2, _side))
_width = _whole(1, MAX_WIDTH)
_ratio = _real(0.01, 64)
_norm = _optional(_options(eps=_real(0, 1)))
_activation = _optional(_options(approximate=_one_of("none", "tanh")))

_MODEL: dict[str, Check] = {
    "embed_dim": _width,
    "quick_gelu": _yes_or_no,
    "custom_text": _yes_or_no,
    "init_logit_scale": _real(-100, 100),
    "init_logit_bias": _optional(_real(-1000, 1000)),
    "nonscalar_logit_scale": _yes_or_no,
}
_VISION: dict[str, Check] = {
    "image_size": _size,
    "patch_size": _size,
    "width": _width,
    "layers": _whole(1, MAX_LAYERS),
    "head_width": _width,
    "mlp_ratio": _ratio,
    "ls_init_value": _optional(_real(0, 100)),
    "patch_dropout": _real(0, 0.99),
    "no_ln_pre": _yes_or_no,
    "pos_embed_type": _one_of("learnable", "sin_cos_2d"),
    "final_ln_after_pool": _yes_or_no,
    "pool_type": _one_of("tok", "avg"),
    "output_tokens": _yes_or_no,
    "norm_kwargs": _norm,
    "act_kwargs": _activation,
    "timm_model_name": lambda value: isinstance(value, str) and bool(TIMM_NAMES.fullmatch(value)),
    "timm_model_pretrained": _yes_or_no,  # never heeded: it would download
    "timm_pool": _one_of("", "avg", "token", "map"),
    "timm_proj": _one_of("", "linear", "mlp", "none", None),
    "timm_proj_bias": _yes_or_no,
    "timm_drop": _real(0, 0.99),
    "timm_drop_path": _optional(_real(0, 0.99)),
}
_TEXT: dict[str, Check] = {
    "context_length": _whole(1, MAX_CONTEXT),
    "vocab_size": _whole(1, MAX_VOCABULARY),
    "width": _width,
    "heads": _whole(1, 1024),
    "layers": _whole(1, MAX_LAYERS),
    "mlp_ratio": _ratio,
    "ls_init_value": _optional(_real(0, 100)),
    "embed_cls": _yes_or_no,
    "pad_id": _whole(0, MAX_VOCABULARY),
    "eos_id": _whole(0, MAX_VOCABULARY),
    "no_causal_mask": _yes_or_no,
    "final_ln_after_pool": _yes_or_no,
    "pool_type": _one_of("first", "last", "argmax", "eos"),
    "proj_bias": _yes_or_no,
    "proj_type": _one_of("linear", "none"),
    "output_tokens": _yes_or_no,
    "norm_kwargs": _norm,
    "act_kwargs": _activation,
    "hf_tokenizer_name": lambda value: isinstance(value, str),  # only says that there is a tokenizer.json
    "hf_model_name": lambda value: isinstance(value, str) and bool(BERTS.fullmatch(value)),
    "hf_model_pretrained": _yes_or_no,  # never heeded: it would download
    "hf_proj_type": _one_of("linear", "mlp", None),
    "hf_pooler_type": _one_of("mean_pooler", "max_pooler", "cls_pooler", "cls_last_hidden_state_pooler"),
}
_TOKENIZER: dict[str, Check] = {
    "bpe_path": lambda value: isinstance(value, str) and 0 < len(value) <= 4096 and bool(Path(value).name),
    "clean": _one_of("lower", "canonicalize", "whitespace"),
    "strip_sep_token": _yes_or_no,
}
_PREPROCESS: dict[str, Check] = {
    "size": _size,
    "mode": _one_of("RGB"),
    "mean": _list_of(3, _real(-1000, 1000)),
    "std": _list_of(3, _real(1e-6, 1000)),
    "interpolation": _one_of("bicubic", "bilinear"),
    "resize_mode": _one_of("shortest", "longest", "squash"),
    "fill_color": _either(_whole(0, 255), _list_of(3, _whole(0, 255))),
}
