"""A commit exported twice, by two people in two places: the same bytes, one bill of materials, one signature."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from story.hospitals import Merged, copy_repository, forge, forge_ok, git_ok

BILL = "bom.cdx.json"
CARD = "contributions/breast/card.toml"


@pytest.fixture(scope="module")
def top(merged: Merged, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hospitals' model, with licences of the model and of one of the two."""
    top = copy_repository(merged("breast", "colon"), tmp_path_factory.mktemp("bills") / "model")
    for path, text in (("forge.toml", "Apache-2.0"), (CARD, "CC-BY-NC-4.0 AND LicenseRef-consortium")):
        (top / path).write_text(f'license = "{text}"\n' + (top / path).read_text())
    git_ok(top, "commit", "--quiet", "-am", "State the licences")
    return top


def export(top: Path, rev: str, folder: Path, *options: str, **variables: str) -> Path:
    """`git forge export --bom` in a process of its own."""
    command = [sys.executable, "-m", "forge", "export", rev, folder, *options, "--bom"]
    subprocess.run(command, cwd=top, env=os.environ | variables, check=True, capture_output=True)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", params=["peft", "open_clip"])
def exports(request: pytest.FixtureRequest, top: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One in the clone where the model was made, and one in a clone of it, by another revision's name."""
    folder = tmp_path_factory.mktemp(request.param)
    git_ok(folder, "clone", "--quiet", str(top), "another clone")
    form = ("--format", request.param)
    first = export(top, "HEAD", folder / "first", *form, PYTHONHASHSEED="1", OMP_NUM_THREADS="1")
    other = {"PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "2", "MKL_CBWR": "COMPATIBLE", "TZ": "Asia/Tokyo"}
    place = folder / "another clone" / "deep" / "out"
    return first, export(folder / "another clone", "origin/main", place, *form, **other)


def test_a_commit_is_the_same_bytes_wherever_it_is_exported(exports: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = map(contents, exports)
    assert len(first) == 3 + ("vocabulary.bpe" in first) and BILL in first
    assert first == second
    somewhere = str(tmp_path.parents[1]).encode()  # above every folder of this run, the base's too
    assert [name for name, content in first.items() if somewhere in content] == []


def test_the_bill_names_everything_in_it(top: Path, exports: tuple[Path, Path]) -> None:
    files = contents(exports[0])
    text = files.pop(BILL).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    model = document["metadata"]["component"]
    assert model["version"] == git_ok(top, "rev-parse", "HEAD")
    assert model["licenses"] == [{"license": {"id": "Apache-2.0", "acknowledgement": "declared"}}]
    listed = {each["name"]: each["hashes"][0]["content"] for each in model["components"]}
    assert listed == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    parts = {each["bom-ref"]: each for each in document["components"]}
    item = json.loads((top / "forge-item.json").read_text())
    assert sorted(parts) == ["base", *(f"contribution:{n}:{p}" for n in ("breast", "colon") for p in PARTS)]
    for name in ("breast", "colon"):
        for part, file in PARTS.items():
            blob, content = item["contributions"][name][part], (top / "contributions" / name / file).read_bytes()
            found = parts[f"contribution:{name}:{part}"]
            assert found["version"] == blob == git_ok(top, "rev-parse", f"HEAD:contributions/{name}/{file}")
            assert found["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}]
            stated = [{"expression": "CC-BY-NC-4.0 AND LicenseRef-consortium", "acknowledgement": "declared"}]
            assert found.get("licenses") == (stated if name == "breast" else None)
    assert "licenses" not in parts["base"]
    assert {"name": "git-forge:signer", "value": "not signed"} in parts["contribution:colon:adapter"]["properties"]


PARTS = {"adapter": "adapter_model.safetensors", "distilled": "distilled.safetensors"}


def model_signing(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_signing", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    """(private, public): a new key on the curve P-256."""
    folder, key = tmp_path_factory.mktemp("keys"), ec.generate_private_key(ec.SECP256R1())
    private, public = folder / "key.pem", folder / "key.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_a_signature_of_one_export_holds_for_another(
    exports: tuple[Path, Path], keys: Sequence[Path], tmp_path: Path
) -> None:
    signature, (private, public) = tmp_path / "model.sig", keys
    signed = model_signing("sign", "key", "--private_key", private, "--signature", signature, exports[0])
    assert signed.returncode == 0, signed.stderr
    verify: Any = ("verify", "key", "--public_key", public, "--signature", signature)
    for folder in exports:
        said = model_signing(*verify, folder)
        assert said.returncode == 0 and "Verification succeeded" in said.stdout + said.stderr
    copy = copy_repository(exports[1], tmp_path / "changed")
    weights = next(copy.glob("*.safetensors"))
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    said = model_signing(*verify, copy)
    assert said.returncode != 0 and weights.name in said.stdout + said.stderr


def test_without_bom_there_is_none(top: Path, tmp_path: Path) -> None:
    forge_ok(top, "export", tmp_path / "out", "--format", "peft")
    assert sorted(contents(tmp_path / "out")) == ["adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.parametrize(
    ("path", "old", "new", "message"),
    [
        (CARD, "CC-BY-NC-4.0 AND", "for friends of", f"{CARD}: license is no SPDX license expression: 'for friends of"),
        ("forge.toml", "Apache-2.0", "Apache", "forge.toml: license is no SPDX license expression: 'Apache'"),
    ],
)
def test_a_wrong_licence_is_named(top: Path, tmp_path: Path, path: str, old: str, new: str, message: str) -> None:
    copy = copy_repository(top, tmp_path / "model")
    text = (copy / path).read_text()
    assert old in text
    (copy / path).write_text(text.replace(old, new))
    git_ok(copy, "commit", "--quiet", "--no-verify", "-am", "A licence in words")
    said = forge(copy, "export", tmp_path / "out", "--format", "peft", "--bom")
    assert said.code == 128 and message in said.err and "https://spdx.org/licenses" in said.err
    assert not (tmp_path / "out").exists()


def test_files_that_the_item_does_not_name_get_no_bill(top: Path, tmp_path: Path) -> None:
    """Else the licence of one adapter's card would be said of another adapter."""
    copy = copy_repository(top, tmp_path / "model")
    for file in PARTS.values():
        (copy / "contributions" / "breast" / file).write_bytes((top / "contributions" / "colon" / file).read_bytes())
    git_ok(copy, "commit", "--quiet", "--no-verify", "-am", "Another adapter under the same card")
    said = forge(copy, "export", tmp_path / "out", "--format", "peft", "--bom")
    assert said.code == 128 and "no bill of materials" in said.err and "but the forge item names" in said.err
    assert not (tmp_path / "out").exists()


def test_a_model_starts_with_a_licence(base_folder: Path, tmp_path: Path) -> None:
    git_ok(tmp_path, "init", "--quiet", "model")
    top = tmp_path / "model"
    said = forge(top, "init", "--base", base_folder, "--license", "free for all")
    assert said.code == 128 and "--license is no SPDX license expression: 'free for all'" in said.err
    assert [path.name for path in top.iterdir()] == [".git"]
    forge_ok(top, "init", "--base", base_folder, "--license", "CC-BY-SA-4.0")
    assert 'license = "CC-BY-SA-4.0"\n' in (top / "forge.toml").read_text()
    forge_ok(top, "export", tmp_path / "out", "--format", "open_clip", "--bom")
    model = json.loads((tmp_path / "out" / BILL).read_text())["metadata"]["component"]
    assert model["licenses"] == [{"license": {"id": "CC-BY-SA-4.0", "acknowledgement": "declared"}}]
