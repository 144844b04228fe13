"""A repository in which people sign with real keys of OpenSSH, made by ssh-keygen; no command of git forge runs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from forge.git.running import Repository, find_repository

ADA, MAX, BREAST, LUNG, STRANGER = "ada@c", "max@c", "p@h1", "q@h2", "x@h9"
PEOPLE = (ADA, MAX, BREAST, LUNG)
SITES = f'format = 1\nmaintainers = ["{ADA}", "{MAX}"]\n[sites]\nbreast = ["{BREAST}"]\nlung = ["{LUNG}"]\n'
DATE = "2026-03-01T12:00:00+00:00"

Changes = Mapping[str, str | None]  # path: content, None to take the file out


class Keyring:
    """Keys by name, made as they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def private(self, name: str, kind: str = "ed25519") -> Path:
        file = self.folder / f"{name.replace('*', 'any')} {kind}"
        if not file.exists():
            self.ssh_keygen("-q", "-t", kind, "-N", "", "-C", name, "-f", str(file))
        return file

    def public(self, name: str, kind: str = "ed25519") -> str:
        """Kind and key, as they stand in allowed_signers."""
        text = self.private(name, kind).with_name(f"{self.private(name, kind).name}.pub").read_text()
        return " ".join(text.split()[:2])

    def fingerprint(self, name: str) -> str:
        """As ssh-keygen itself prints it."""
        return self.ssh_keygen("-l", "-f", str(self.private(name))).split()[1]

    def certificate(self, authority: str, name: str, *principals: str) -> Path:
        """A key whose certificate, beside it, is signed by an authority's."""
        key = self.private(f"{name} of {authority}")
        public = key.with_name(f"{key.name}.pub")
        self.ssh_keygen("-q", "-s", str(self.private(authority)), "-I", name, "-n", ",".join(principals), str(public))
        return key.with_name(f"{key.name}-cert.pub")

    def ssh_keygen(self, *args: str) -> str:
        command = ["ssh-keygen", *args]
        return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout

    def allowed(self, *people: str) -> str:
        return "".join(f"{name} {self.public(name)}\n" for name in people)


class Consortium:
    """A repository with .forge/ on main; every commit is signed by whom the test says, or by nobody."""

    def __init__(self, top: Path, keys: Keyring, sites: str | None = SITES) -> None:
        self.top, self.keys = top, keys
        top.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        start: dict[str, str | None] = {"forge.toml": "one\n", "forge-item.json": "one\n"}
        start |= {f"contributions/{name}/card.toml": "one\n" for name in ("breast", "lung")}
        if sites is not None:
            start |= {".forge/sites.toml": sites, ".forge/allowed_signers": keys.allowed(*PEOPLE)}
        self.start = self.commit(None, start)

    @property
    def repo(self) -> Repository:
        return find_repository(self.top)

    @property
    def allowed(self) -> bytes:
        return self.keys.allowed(*PEOPLE).encode()

    def git(
        self, *args: str, by: str | Path | None = None, date: str = DATE, check: bool = True, errors: bool = False
    ) -> str:
        """`git ARGS`, which signs what it makes with a person's key. errors: what it says there comes too."""
        done = subprocess.run(
            ["git", *self.signing(by), *args], cwd=self.top, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            env=os.environ | {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date},
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return (done.stdout + (done.stderr if errors else "")).strip()

    def signing(self, by: str | Path | None) -> list[str]:
        if by is None:
            return ["-c", "commit.gpgSign=false"]
        key = by if isinstance(by, Path) else self.keys.private(by)
        settings = {"gpg.format": "ssh", "user.signingKey": str(key), "commit.gpgSign": "true"}
        return [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]

    def write(self, changes: Changes) -> None:
        for path, content in changes.items():
            file = self.top / path
            if content is None:
                file.unlink()
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content)
        if changes:
            self.git("add", "--all", "--force", "--", *changes)

    def commit(self, by: str | Path | None, changes: Changes, date: str = DATE) -> str:
        self.write(changes)
        self.git("commit", "--quiet", "--allow-empty", "-m", "A change", by=by, date=date)
        return self.git("rev-parse", "HEAD")

    def merge(self, *others: str, by: str | None = None, changes: Changes | None = None) -> str:
        """What git makes of a merge, with further changes in the same commit."""
        self.git("merge", "--quiet", "--no-commit", "--no-ff", *others, check=False)
        self.write(changes or {})
        self.git("commit", "--quiet", "-m", "A merge", by=by)
        return self.git("rev-parse", "HEAD")

    def branch(self, name: str, start: str = "main") -> None:
        self.git("switch", "--quiet", "--create", name, start)

    def switch(self, name: str) -> None:
        self.git("switch", "--quiet", name)
