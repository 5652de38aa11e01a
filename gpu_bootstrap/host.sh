# shellcheck shell=bash
# What both install.sh do alike; the same file on the GPU host and on the edge. It changes only what differs, so that
# a second run touches nothing. PREFIX is empty on a real host.

readonly EX_USAGE=64 EX_DATA=65 EX_SOFTWARE=70 EX_IO=74
readonly ROOT="${PREFIX:-}"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

fail() {
    local code=$1
    shift
    printf '%s: %s\n' "${NAME:?}" "$*" >&2
    exit "$code"
}

say() {
    printf '%s: %s\n' "${NAME:?}" "$*"
}

# release_directory DIR: its absolute path, when it is a release.
release_directory() {
    local directory
    directory=$(cd -- "$1" 2>/dev/null && pwd -P) || fail "$EX_USAGE" "there is no directory $1"
    [[ -d $directory/bootstrap ]] || fail "$EX_DATA" "$directory is no release: it has no bootstrap/"
    printf '%s\n' "$directory"
}

# ensure_user NAME HOME: a system user that nobody can log in as.
ensure_user() {
    [[ -n $ROOT ]] && return
    id -u "$1" >/dev/null 2>&1 && return
    useradd --system --user-group --home-dir "$2" --no-create-home --shell /usr/sbin/nologin "$1" ||
        fail "$EX_IO" "the user $1 could not be made"
    say "made the user $1"
}

# put SOURCE TARGET: copy when it differs; true when it did. A reader sees the old file or the new one.
put() {
    cmp -s -- "$1" "$2" && return 1
    mkdir -p -- "$(dirname "$2")" || fail "$EX_IO" "cannot make $(dirname "$2")"
    if ! { install -m 0644 -- "$1" "$2.new" && mv -f -- "$2.new" "$2"; }; then
        fail "$EX_IO" "cannot write $2"
    fi
    say "wrote $2"
}

# environment FILE: its KEY=VALUE lines as systemd reads them, for the programs we start; nothing in it is run.
environment() {
    local line
    [[ -r $1 ]] || return 0
    while IFS= read -r line; do
        [[ ! $line =~ ^[A-Z][A-Z0-9_]*= ]] || export "${line%%=*}=${line#*=}"
    done <"$1"
}

# readable DIR: whoever runs the service can read what is in it.
readable() {
    find "$1" \( -type d ! -perm -055 -o -type f ! -perm -044 \) -exec chmod go+rX -- {} + ||
        fail "$EX_IO" "cannot make $1 readable"
}

# package DIR NAME: bootstrap/ under the name its files call it by.
package() {
    [[ -L $1/$2 ]] || ln -s bootstrap "$1/$2" || fail "$EX_IO" "cannot make $1/$2"
}

# switch HOME DIR: `current` names the release DIR; true when it did not before.
switch() {
    local target="releases/${2##*/}"
    [[ $2 == "$1/$target" ]] || fail "$EX_USAGE" "$2 is not under $1/releases"
    [[ $(readlink -- "$1/current" || true) == "$target" ]] && return 1
    if ! { ln -sfn -- "$target" "$1/.current.new" && mv -fT -- "$1/.current.new" "$1/current"; }; then
        fail "$EX_IO" "cannot switch $1/current"
    fi
    say "current is ${2##*/}"
}

# start WHAT UNIT: start, restart or reload-or-restart it; it has come up when this returns.
start() {
    systemctl "$1" "$2" && return
    systemctl --no-pager --lines=0 status "$2" || true
    journalctl --no-pager -o cat -n 20 -u "$2" || true
    fail "$EX_SOFTWARE" "$2 does not come up; its last lines stand above"
}

enable() {
    local unit
    for unit in "$@"; do
        systemctl is-enabled --quiet "$unit" || systemctl enable --quiet "$unit" ||
            fail "$EX_SOFTWARE" "$unit cannot be enabled"
    done
}
