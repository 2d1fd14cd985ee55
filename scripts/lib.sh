# Shared by the scripts here; sourced. Sets `root` (the repository) and goes there.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# Debian bookworm's packages that building and testing need. The tests' memory_profiler and jsonschema are Debian's too.
packages=(
    binutils bpftool clang cmake g++ libclang-rt-14-dev llvm libbpf-dev libbpfcc-dev libbz2-dev libcli11-dev libdw-dev libelf-dev libfmt-dev libgtest-dev libspdlog-dev
    make ninja-build nlohmann-json3-dev pkg-config python3 python3-jsonschema python3-memory-profiler python3-numpy
    python3.11 libpython3.11 zlib1g-dev util-linux libcap2-bin xz-utils
)

# What building for arm64 on another machine needs besides (scripts/build arm64).
cross_packages=(g++-aarch64-linux-gnu)

say() { printf '== %s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "this needs root, and there is no sudo: run it as root" >&2
        return 1
    fi
}

# Runs a long command quietly; its output is shown when it fails.
quietly() {
    local log
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# install_packages [PACKAGE...]: those above, if none is named
install_packages() {
    local missing=() package
    [ $# -gt 0 ] || set -- "${packages[@]}"
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]} (a minute or two, once)"
    as_root true
    quietly as_root apt-get update
    quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}

# build_preset release|sanitize|arm64
build_preset() {
    local folder=build
    [ "$1" = release ] || folder=build/$1
    if [ ! -e "$folder/build.ninja" ]; then
        say "configuring ($1)"
        quietly cmake --preset "$1"
    fi
    say "building ($1)"
    quietly cmake --build --preset "$1"
}
