#!/usr/bin/env bash
# Install a release on the edge: beside what serves (stage), then in its place (activate). Live streams stay, unless
# Caddy itself, its unit or the authority of its certificate is another one.
set -euo pipefail
readonly NAME=install
# shellcheck source=edge_bootstrap/host.sh
. "$(dirname "${BASH_SOURCE[0]}")/host.sh"
readonly HOME_DIR="$ROOT/opt/edge"
readonly UNITS="$ROOT/etc/systemd/system"
readonly ENABLED=(caddy.service edge-link.service)

usage() {
    cat <<TEXT
Usage: install.sh stage DIR       look whether the release is whole and Caddy takes its Caddyfile
       install.sh activate DIR    make it the one that serves: units, current, reload (restart when Caddy, its unit or
                                  its certificate's authority changed); waits until it is ready
DIR is $HOME_DIR/releases/NAME with bootstrap/, site/, caddy/caddy. Nothing that is as it must be is touched.
activate reloads Caddy and restarts the link, files changed or not, when SETTINGS_CHANGED=1.
Exit codes: 0 done or already so, $EX_USAGE usage, $EX_DATA not a release as it must be, $EX_SOFTWARE a program failed or Caddy
does not come up, $EX_IO not writable.
TEXT
}

stage() {
    local directory=$1 caddy="$1/caddy/caddy" said
    [[ -f $caddy ]] || fail "$EX_DATA" "$caddy is missing"
    [[ -f $directory/site/index.html ]] || fail "$EX_DATA" "$directory/site/index.html is missing"
    [[ -x $caddy ]] || chmod 0755 "$caddy" || fail "$EX_IO" "cannot make $caddy a program"
    package "$directory" edge_bootstrap
    readable "$directory"
    # With this host's own settings, and a place of its own for what Caddy writes.
    home=$(mktemp -d) || fail "$EX_IO" "cannot make a temporary directory"
    trap 'rm -rf -- "$home"' EXIT # global, since the trap runs after this function
    said=$(
        environment "$ROOT/etc/whisperlive-edge/host.env"
        environment "$ROOT/etc/whisperlive-edge/clients.env"
        HOME=$home EDGE_STORAGE=$home "$caddy" validate --config "$directory/bootstrap/Caddyfile" --adapter caddyfile 2>&1
    ) || fail "$EX_DATA" "Caddy does not take $directory/bootstrap/Caddyfile: $(tail -n 1 <<<"$said")"
    say "staged $directory"
}

activate() {
    local directory=$1 before unit changed='' switched='' restart=''
    before=$(readlink -f -- "$HOME_DIR/current" || true)
    ensure_user caddy /var/lib/caddy
    for unit in "$directory"/bootstrap/units/*.service; do
        if put "$unit" "$UNITS/${unit##*/}"; then
            changed=1
            [[ ${unit##*/} != caddy.service ]] || restart=1
        fi
    done
    [[ -z $changed ]] || systemctl daemon-reload
    cmp -s -- "$directory/caddy/caddy" "$before/caddy/caddy" || restart=1
    switch "$HOME_DIR" "$directory" && switched=1
    enable "${ENABLED[@]}"
    { systemctl is-active --quiet caddy.service && same_authority; } || restart=1
    if [[ -z $changed$switched$restart && ${SETTINGS_CHANGED:-} != 1 ]] && systemctl is-active --quiet edge-link.service; then
        say "unchanged: ${directory##*/} serves"
        return
    fi
    if [[ -n $restart ]]; then
        start restart caddy.service
    elif [[ ${SETTINGS_CHANGED:-} == 1 ]] || ! cmp -s -- "$directory/bootstrap/Caddyfile" "$before/bootstrap/Caddyfile"; then
        # A new Caddyfile, read with the settings as they are now; the site needs nothing: it is found by `current`.
        start reload caddy.service
    fi
    if [[ -n $changed || ${SETTINGS_CHANGED:-} == 1 ]] ||
        ! same_link "$directory/bootstrap" "$before/bootstrap"; then
        start restart edge-link.service
    else
        start start edge-link.service
    fi
    say "ready: ${directory##*/}"
}

# same_authority: whether the Caddy that runs was started with the certificate settings of now. A reload is not enough
# for others: Caddy 2.11 drops its own authority's certificate then and asks for no other, and keeps ACME's to its end.
same_authority() {
    local pid
    pid=$(systemctl show -P MainPID caddy.service)
    [[ $(certificate_settings "/proc/$pid/environ") == "$(certificate_settings "$ROOT/etc/whisperlive-edge/host.env")" ]]
}

# certificate_settings FILE: those of host.env, or of a process.
certificate_settings() {
    tr '\0' '\n' <"$1" 2>/dev/null | grep -E '^EDGE_(TLS|ACME_CA|RENEW_INTERVAL)=' | sort || true
}

# same_link BOOTSTRAP BOOTSTRAP: whether the host link is the same program in both.
same_link() {
    cmp -s -- "$1/link.py" "$2/link.py" && diff -rq --exclude=__pycache__ -- "$1/hostlink" "$2/hostlink" >/dev/null 2>&1
}

(($# > 0)) || { usage >&2; exit "$EX_USAGE"; }
verb=$1
shift
case $verb in
    -h | --help) usage; exit 0 ;;
    stage | activate) ;;
    *) fail "$EX_USAGE" "no such step: $verb (see --help)" ;;
esac
(($# == 1)) || fail "$EX_USAGE" "$verb takes the release's directory"
directory=$(release_directory "$1")
case $verb in
    stage) stage "$directory" ;;
    activate) activate "$directory" ;;
esac
