#!/usr/bin/env bash
# Install a release on this GPU host: beside what serves (stage), then in its place (activate).
set -euo pipefail
readonly NAME=install
# shellcheck source=gpu_bootstrap/host.sh
. "$(dirname "${BASH_SOURCE[0]}")/host.sh"
readonly HOME_DIR="$ROOT/opt/whisperlive"
readonly UNITS="$ROOT/etc/systemd/system"
readonly ENABLED=(whisperlive.service whisperlive-link.service whisperlive-deadman.timer whisperlive-poweroff.path)

usage() {
    cat <<TEXT
Usage: install.sh stage DIR [--profile cpu|cuda] [--index URL]   make DIR/venv from DIR/wheels (or from a package
                                                                 index) by the hashes of its lock, check its models
       install.sh activate DIR     make it the one that serves: units, current, restart; waits until it is ready
DIR is $HOME_DIR/releases/NAME with bootstrap/, wheels/, models/. Nothing that is as it must be is touched.
activate restarts the services, changed or not, when SETTINGS_CHANGED=1.
Exit codes: 0 done or already so, $EX_USAGE usage, $EX_DATA not a release as it must be, $EX_SOFTWARE a program failed or the service
does not come up, $EX_IO not writable.
TEXT
}

stage() {
    local directory=$1 profile=$2 index=$3 lock wanted python told
    lock="$directory/bootstrap/lock-$profile.txt"
    [[ -r $lock ]] || fail "$EX_DATA" "$lock is missing"
    python=$(command -v python3) || fail "$EX_SOFTWARE" "python3 is not installed"
    package "$directory" gpu_bootstrap
    told=$(python3 "$directory/bootstrap/release_env.py" "$directory" "$profile") ||
        fail "$EX_DATA" "$directory is not complete; the line above says what is wrong"
    if [[ $told != "$(cat "$directory/release.env" 2>/dev/null)" ]]; then
        printf '%s\n' "$told" >"$directory/release.env" || fail "$EX_IO" "cannot write $directory/release.env"
    fi

    wanted="$profile $("$python" -V) $(sha256sum <"$lock")"
    if [[ $(cat "$directory/venv/.staged" 2>/dev/null) == "$wanted" ]]; then
        say "unchanged: $directory/venv"
    else
        link_venv "$directory" "$wanted" || make_venv "$directory" "$lock" "$index"
        nvidia "$directory"
        printf '%s\n' "$wanted" >"$directory/venv/.staged"
        say "staged $directory"
    fi
    readable "$directory"
}

# link_venv DIR WANTED: take the packages of another release here that was staged from the same lock by the same Python;
# false when there is none. Its files are links, which nobody writes to: a release that differs in one script is
# staged in a second, and takes no room.
link_venv() {
    local directory=$1 wanted=$2 other
    for other in "$HOME_DIR"/releases/*/venv; do
        [[ $other != "$directory/venv" && $(cat "$other/.staged" 2>/dev/null) == "$wanted" ]] || continue
        rm -rf -- "$directory/venv"
        cp -al -- "$other" "$directory/venv" 2>/dev/null || return 1
        rm -f -- "$directory/venv/.staged"
        compile "$directory" bootstrap
        say "packages as in $(basename "$(dirname "$other")")"
        return 0
    done
    return 1
}

make_venv() {
    local directory=$1 lock=$2 index=$3
    local from=(--no-index --find-links "$directory/wheels")
    [[ -z $index ]] || from=(--index-url "$index")
    rm -rf -- "$directory/venv"
    python3 -m venv "$directory/venv" || fail "$EX_SOFTWARE" "python3 cannot make $directory/venv: is python3-venv there?"
    "$directory/venv/bin/python" -I -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-input \
        --no-compile --no-deps --require-hashes "${from[@]}" -r "$lock" ||
        fail "$EX_SOFTWARE" "the packages of $lock do not go in; the lines above say which"
    compile "$directory" venv/lib bootstrap
}

# compile DIR FOLDER...: here, so that no start has to: the service cannot write, and compiling takes longer than reading.
compile() {
    local directory=$1
    shift
    (cd -- "$directory" && venv/bin/python -I -m compileall -q -j 0 "$@" >/dev/null) || true
}

# nvidia DIR: the libraries of CUDA under a name that the unit knows.
nvidia() {
    local directory=$1 packages
    packages=$("$directory/venv/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    [[ ! -d $packages/nvidia ]] || ln -sfn -- "$packages/nvidia" "$directory/venv/nvidia"
}

activate() {
    local directory=$1 profile changed='' switched='' unit active=1
    [[ -r $directory/venv/.staged ]] || fail "$EX_DATA" "$directory is not staged"
    profile=$(cut -d' ' -f1 "$directory/venv/.staged")
    ensure_user whisperlive /run/whisperlive
    host_key
    for unit in "$directory"/bootstrap/units/*.{service,timer,path}; do
        put "$unit" "$UNITS/${unit##*/}" && changed=1
    done
    put "$directory/bootstrap/units/$profile.conf" "$UNITS/whisperlive.service.d/profile.conf" && changed=1
    if put "$directory/bootstrap/units/tmpfiles.conf" "$ROOT/etc/tmpfiles.d/whisperlive.conf"; then
        systemd-tmpfiles --create "$ROOT/etc/tmpfiles.d/whisperlive.conf" || fail "$EX_IO" "cannot make /run/whisperlive"
    fi
    [[ -z $changed ]] || systemctl daemon-reload
    switch "$HOME_DIR" "$directory" && switched=1
    enable "${ENABLED[@]}"
    for unit in "${ENABLED[@]}"; do
        systemctl is-active --quiet "$unit" || active=''
    done
    if [[ -z $changed$switched && -n $active && ${SETTINGS_CHANGED:-} != 1 ]]; then
        say "unchanged: ${directory##*/} serves"
        return
    fi
    if [[ -n $changed$switched || ${SETTINGS_CHANGED:-} == 1 ]]; then
        # The link first: it brings the ticket keys while the model loads.
        start restart whisperlive-link.service
        start restart whisperlive.service
    fi
    for unit in "${ENABLED[@]}"; do
        start start "$unit"
    done
    say "ready: ${directory##*/}"
}

# The key that stands for the instance's role where there is none (the embedded cloud): the link may read it.
host_key() {
    local key="$ROOT/etc/whisperlive-edge/host.key"
    [[ -e $key && -z $ROOT ]] || return 0
    [[ $(stat -c '%G %a' "$key") == "whisperlive 640" ]] && return
    { chgrp whisperlive "$key" && chmod 0640 "$key"; } || fail "$EX_IO" "cannot let the link read $key"
}

(($# > 0)) || { usage >&2; exit "$EX_USAGE"; }
verb=$1
shift
case $verb in
    -h | --help) usage; exit 0 ;;
    stage | activate) ;;
    *) fail "$EX_USAGE" "no such step: $verb (see --help)" ;;
esac
(($# > 0)) || fail "$EX_USAGE" "$verb takes the release's directory"
directory=$(release_directory "$1")
shift
profile=cpu index=
while (($# > 0)); do
    [[ $verb == stage && ($1 == --profile || $1 == --index) && $# -ge 2 ]] || fail "$EX_USAGE" "$verb does not take: $*"
    case $1 in
        --profile) profile=$2 ;;
        --index) index=$2 ;;
    esac
    shift 2
done
[[ $profile == cpu || $profile == cuda ]] || fail "$EX_USAGE" "--profile is cpu or cuda, not $profile"
case $verb in
    stage) stage "$directory" "$profile" "$index" ;;
    activate) activate "$directory" ;;
esac
