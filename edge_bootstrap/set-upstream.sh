#!/usr/bin/env bash
# Point the edge at the GPU hosts with these private addresses.
#
# Caddy asks for the upstream's name every second, so writing the hosts file is all there is to do: new streams
# follow, live ones stay where they are, and nothing is reloaded. The host link calls this on the edge, and SSM
# does when the link is down.
set -euo pipefail

readonly NAME="${EDGE_UPSTREAM_NAME:-gpu.whisperlive.internal}"
readonly HOSTS="${PREFIX:-}/etc/hosts"
readonly MARK="# whisperlive-edge upstream"
readonly MOST=16

readonly EX_USAGE=64 EX_DATA=65 EX_IO=74 EX_BUSY=75

usage() {
    cat <<TEXT
Usage: set-upstream.sh ADDRESS...   forward streams to these GPU hosts (IPv4, at most $MOST)
       set-upstream.sh --none       forward to none
       set-upstream.sh --show       print the addresses in force, one a line
Writes PREFIX/etc/hosts (PREFIX is empty on a real host), lines marked "$MARK".
Exit codes: 0 done or already so, $EX_USAGE usage, $EX_DATA not an address, $EX_IO not writable, $EX_BUSY another run holds the lock.
TEXT
}

fail() {
    local code=$1
    shift
    printf 'set-upstream: %s\n' "$*" >&2
    exit "$code"
}

valid_address() {
    local octet first
    [[ $1 =~ ^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})$ ]] || return 1
    first=${BASH_REMATCH[1]}
    for octet in "${BASH_REMATCH[@]:1}"; do
        # A leading zero would read as octal in some resolvers and as decimal in others.
        [[ $octet == 0 || $octet != 0* ]] || return 1
        ((octet <= 255)) || return 1
    done
    # 0.* is "this host", 224 and above multicast and broadcast: nothing can listen there.
    ((first > 0 && first < 224))
}

in_force() {
    [[ -e $HOSTS ]] || return 0
    awk -v mark="$MARK" 'index($0, mark) { print $1 }' "$HOSTS"
}

wanted_file() {
    local address
    if [[ -e $HOSTS ]]; then
        awk -v mark="$MARK" '!index($0, mark)' "$HOSTS"
    else
        printf '127.0.0.1 localhost\n'
    fi
    for address in "$@"; do
        printf '%s %s %s\n' "$address" "$NAME" "$MARK"
    done
}

(($# > 0)) || {
    usage >&2
    exit "$EX_USAGE"
}
case $1 in
    -h | --help)
        usage
        exit 0
        ;;
    --show)
        (($# == 1)) || fail "$EX_USAGE" "--show takes nothing else"
        in_force
        exit 0
        ;;
    --none)
        (($# == 1)) || fail "$EX_USAGE" "--none takes no address"
        shift
        ;;
    -*) fail "$EX_USAGE" "no such option: $1 (see --help)" ;;
esac

(($# <= MOST)) || fail "$EX_USAGE" "$# addresses are more than $MOST"
[[ $NAME =~ ^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$ ]] || fail "$EX_DATA" "EDGE_UPSTREAM_NAME is not a host name: $NAME"
for address in "$@"; do
    valid_address "$address" || fail "$EX_DATA" "not an IPv4 address: $address"
done

# Sorted and without repeats: the same set in another order is no change.
addresses=()
if (($# > 0)); then
    mapfile -t addresses < <(printf '%s\n' "$@" | sort -u)
fi

directory=$(dirname "$HOSTS")
mkdir -p "$directory" 2>/dev/null || fail "$EX_IO" "cannot make $directory"
[[ -w $directory ]] || fail "$EX_IO" "cannot write in $directory"
exec 9>>"$directory/.set-upstream.lock" || fail "$EX_IO" "cannot open the lock in $directory"
flock -w 10 9 || fail "$EX_BUSY" "another run holds $directory/.set-upstream.lock for 10 s"

if [[ -e $HOSTS && "$(in_force)" == "$(printf '%s\n' "${addresses[@]}")" ]]; then
    printf 'unchanged: %s\n' "${addresses[*]:-none}"
    exit 0
fi

# A rename within the directory: a reader sees the old file or the new one, never half of either.
new=$(mktemp "$directory/.hosts.XXXXXX") || fail "$EX_IO" "cannot write in $directory"
trap 'rm -f "$new"' EXIT
wanted_file "${addresses[@]}" >"$new"
chmod 0644 "$new"
sync -d "$new" 2>/dev/null || true
mv -f "$new" "$HOSTS" || fail "$EX_IO" "cannot replace $HOSTS"

[[ "$(in_force)" == "$(printf '%s\n' "${addresses[@]}")" ]] || fail "$EX_IO" "$HOSTS does not hold what was written"
printf 'upstreams: %s\n' "${addresses[*]:-none}"
