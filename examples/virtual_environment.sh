# Sourced by ./tests/run and ./examples/quickstart: a virtual environment in .venv with this checkout installed.

# What follows starts git forge hundreds of times: compiled once, not every time.
unset PYTHONDONTWRITEBYTECODE

# prepare_environment [EXTRA]: make .venv if need be and install git forge (editable) with what it needs.
# Done again only when pyproject.toml or the Python changed.
prepare_environment() {
    local extra="${1:-}" python="${PYTHON:-python3}" wanted stamp
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "git forge needs Python 3.11 or newer; $python is $("$python" --version). Set PYTHON=..." >&2
        return 1
    fi
    wanted="$("$python" --version) $(cksum < pyproject.toml)"
    for stamp in .venv/forge-with-"${extra:-nothing}" .venv/forge-with-dev; do
        if [ -x .venv/bin/git-forge ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
            return
        fi
    done
    echo "Setting up .venv (about three minutes and 6 GB the first time: PyTorch brings its GPU libraries) ..." >&2
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".${extra:+[$extra]}"
    echo "$wanted" > .venv/forge-with-"${extra:-nothing}"
}
