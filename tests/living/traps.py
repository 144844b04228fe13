"""Files of a hostile branch: each of them, once something runs it, leaves its name in a folder."""

from __future__ import annotations

from pathlib import Path

# What Python would take from its working directory, or from the folder of a script.
MODULES = (
    "pip/__init__.py", "pip/__main__.py", "venv/__init__.py", "venv/__main__.py", "ensurepip/__init__.py",
    "forge/__init__.py", "forge/__main__.py", "click.py", "json.py", "tempfile.py", "subprocess.py",
    "urllib/__init__.py", "numpy.py", "torch.py", "sitecustomize.py", "usercustomize.py", "setup.py",
    ".github/json.py", ".github/sitecustomize.py", ".gitlab/json.py", ".gitlab/sitecustomize.py",
)  # fmt: skip
# What a shell or git would run, were the folder on PATH, or were this where git looks for hooks.
PROGRAMS = (
    "git-forge", "git-lfs", "git", "python", "python3", "cat", "head", "od", "base64", "mktemp", "trap.sh",
    "venv/bin/python", "bin/git-forge", "hooks/post-checkout", "hooks/reference-transaction", ".githooks/post-checkout",
)  # fmt: skip
SETTINGS = {
    ".gitattributes": "* filter=trap diff=trap merge=trap\n",
    ".gitconfig": '[filter "trap"]\n\tsmudge = ./trap.sh\n[core]\n\thooksPath = hooks\n\tfsmonitor = ./trap.sh\n',
    ".lfsconfig": '[lfs]\n\turl = http://127.0.0.1:9/lfs\n[filter "trap"]\n\tsmudge = ./trap.sh\n',
    ".python-version": "2.7\n",
    "pip.conf": "[global]\nindex-url = http://127.0.0.1:9/simple\n",
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "setup"\nbackend-path = ["."]\n',
}


def set_traps(folder: Path, marks: Path) -> None:
    """Write them below `folder`; what runs leaves its path, with + for /, in `marks`."""
    for path in (*MODULES, *PROGRAMS):
        mark = marks / path.replace("/", "+")
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if path in MODULES:
            file.write_text(f"open({str(mark)!r}, 'w').close()\n")
        else:
            file.write_text(f"#!/bin/sh\n: >'{mark}'\n")
            file.chmod(0o755)
    for path, text in SETTINGS.items():
        (folder / path).write_text(text)
