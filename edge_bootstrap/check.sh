#!/usr/bin/env bash
# Prove that the edge works: one line per layer, "NAME VERDICT DETAIL". A GPU that sleeps is no fault.
set -euo pipefail
readonly NAME=check
# shellcheck source=edge_bootstrap/host.sh
. "$(dirname "${BASH_SOURCE[0]}")/host.sh"
readonly LEAST_FREE_MB=256 CERTIFICATE_S=60

usage() {
    cat <<TEXT
Usage: check.sh DIR      check the release in DIR, which must be the one that serves
Verdicts: ok, failed. Every layer is looked at, whatever failed before.
Exit codes: 0 no layer failed, 1 one did, $EX_USAGE usage, $EX_DATA not a release as it must be.
TEXT
}

failed=0
told() {
    printf '%s %s %s\n' "$1" "$2" "$3"
    [[ $2 != failed ]] || failed=1
}

ask() { # PATH: what this edge's own Caddy answers, its certificate verified
    local how=()
    [[ -z $authority ]] || how=(--cacert "$authority")
    # By the name's own certificate, but past DNS; where an address is served, its certificate goes with the address.
    [[ $site =~ ^[0-9.]+$|: ]] || how+=(--connect-to "::127.0.0.1:$port")
    curl -fsS --noproxy '*' -m 15 "${how[@]}" "https://$site$1" 2>&1
}

# Caddy asks for a certificate when it is told of a name; an authority may take a while, and until it has given one,
# no handshake is answered (curl's 35).
wait_for_certificate() {
    local code=35
    while ((code == 35 && SECONDS < CERTIFICATE_S)); do
        code=0
        ask /healthz >/dev/null || code=$?
        ((code != 35)) || sleep 0.5
    done
}

case ${1:-} in
    -h | --help) usage; exit 0 ;;
    '') usage >&2; exit "$EX_USAGE" ;;
esac
(($# == 1)) || fail "$EX_USAGE" "takes one directory"
directory=$(release_directory "$1")
environment "$ROOT/etc/whisperlive-edge/host.env"
site=${EDGE_SITE:-localhost}
site=${site%%,*}
port=${EDGE_HTTPS_PORT:-443}
# Whom to trust: Caddy's own authority, a private one, or those of the system.
authority=
case ${EDGE_TLS:-tls_internal} in
    tls_internal) authority="${EDGE_STORAGE:-$ROOT/var/lib/caddy}/pki/authorities/local/root.crt" ;;
    tls_acme) [[ ! ${EDGE_ACME_OPTIONS:-} =~ ^trusted_roots\ +([^\ ]+)$ ]] || authority=${BASH_REMATCH[1]} ;;
esac
[[ -r $authority ]] || authority=

free=$(df -Pm -- "$directory" | awk 'NR == 2 { print $4 }')
if ((free < LEAST_FREE_MB)); then
    told disk failed "$free MB are free, $LEAST_FREE_MB are the least"
else
    told disk ok "$free MB are free"
fi
if [[ $(readlink -f "$ROOT/opt/edge/current" || true) == "$directory" ]]; then
    told release ok "${directory##*/}"
else
    told release failed "current is $(readlink "$ROOT/opt/edge/current" || echo none), not ${directory##*/}"
fi
for unit in caddy edge-link; do
    if systemctl is-active --quiet "$unit"; then
        told "unit:$unit" ok "active since $(systemctl show -P ActiveEnterTimestamp "$unit")"
    else
        told "unit:$unit" failed "$(systemctl is-active "$unit" || true), result $(systemctl show -P Result "$unit")"
    fi
done
wait_for_certificate
if said=$(ask /healthz) && [[ $said == *'"ok":true'* ]]; then
    told https ok "https://$site answers"
else
    told https failed "https://$site/healthz: ${said:0:300}"
fi
if said=$(ask /) && [[ $said == *'<html'* ]]; then
    told site ok "the page is there"
else
    told site failed "https://$site/: ${said:0:300}"
fi
if said=$(ask /api/v1/health) && [[ $said == *'"ok":true'* ]]; then
    told api ok "the control plane answers through the edge"
else
    told api failed "https://$site/api/v1/health: ${said:0:300}"
fi
if said=$("$directory/bootstrap/set-upstream.sh" --show 2>&1); then
    told upstreams ok "${said:-none}"
else
    told upstreams failed "$said"
fi
exit "$failed"
