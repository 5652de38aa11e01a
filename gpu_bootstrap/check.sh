#!/usr/bin/env bash
# Prove that this GPU host works: one line per layer, "NAME VERDICT DETAIL", and real words from real speech last.
set -euo pipefail
readonly NAME=check
# shellcheck source=gpu_bootstrap/host.sh
. "$(dirname "${BASH_SOURCE[0]}")/host.sh"
readonly LEAST_FREE_MB=1024

usage() {
    cat <<TEXT
Usage: check.sh DIR      check the release in DIR, which must be the one that serves
Verdicts: ok, failed, not_needed (the cpu profile needs no GPU). Every layer is looked at, whatever failed before.
Exit codes: 0 real words came and no layer failed, 1 one did, $EX_USAGE usage, $EX_DATA not a release as it must be.
TEXT
}

failed=0
told() {
    printf '%s %s %s\n' "$1" "$2" "$3"
    [[ $2 != failed ]] || failed=1
}

disk() {
    local free
    free=$(df -Pm -- "$directory" | awk 'NR == 2 { print $4 }')
    if ((free < LEAST_FREE_MB)); then
        told disk failed "$free MB are free, $LEAST_FREE_MB are the least"
    else
        told disk ok "$free MB are free"
    fi
}

gpu() {
    local found
    if [[ $profile == cpu ]]; then
        told gpu not_needed "cpu profile"
        told driver not_needed "cpu profile"
        told cuda not_needed "cpu profile"
        return
    fi
    if found=$(nvidia-smi --query-gpu=name,memory.total --format=csv,noheader 2>&1); then
        told gpu ok "${found//$'\n'/; }"
        told driver ok "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)"
    else
        told gpu failed "nvidia-smi: $(head -n 1 <<<"$found")"
        told driver failed "it does not answer nvidia-smi; the machine image must bring it"
    fi
    # As the service does it: CTranslate2 finds a device, and cuBLAS and cuDNN load.
    if found=$(LD_LIBRARY_PATH="$directory/venv/nvidia/cublas/lib:$directory/venv/nvidia/cudnn/lib" \
        "$directory/venv/bin/python" -I -c '
import ctypes, ctranslate2
for library in ("libcublas.so.12", "libcudnn.so.9"):
    ctypes.CDLL(library)
count = ctranslate2.get_cuda_device_count()
assert count, "CTranslate2 sees no CUDA device"
print(count, "device(s);", ", ".join(sorted(ctranslate2.get_supported_compute_types("cuda"))))' 2>&1); then
        told cuda ok "$found"
    else
        told cuda failed "$(tail -n 1 <<<"$found")"
    fi
}

unit() {
    local name since
    for name in whisperlive whisperlive-link whisperlive-deadman.timer; do
        if systemctl is-active --quiet "$name"; then
            since=$(systemctl show -P ActiveEnterTimestamp "$name")
            told "unit:${name%.timer}" ok "active since $since"
        else
            told "unit:${name%.timer}" failed "$(systemctl is-active "$name" || true), result $(systemctl show -P Result "$name")"
        fi
    done
}

release() {
    local current
    current=$(readlink -f "$ROOT/opt/whisperlive/current" || true)
    if [[ $current == "$directory" ]]; then
        told release ok "${directory##*/}"
    else
        told release failed "current is ${current##*/}, not ${directory##*/}"
    fi
}

ports() {
    local health
    if health=$(curl -fsS --noproxy '*' -m 5 http://127.0.0.1:9091/health 2>&1); then
        if [[ $health == *'"status": "ready"'* ]]; then
            told port:9091 ok "ready"
        else
            told port:9091 failed "not ready: ${health:0:300}"
        fi
    else
        told port:9091 failed "$health"
    fi
    if (exec 3<>/dev/tcp/127.0.0.1/9090) 2>/dev/null; then
        told port:9090 ok "listens"
    else
        told port:9090 failed "nobody listens"
    fi
}

speech() {
    local heard began=$SECONDS
    if heard=$(cd -- "$directory" && PYTHONDONTWRITEBYTECODE=1 venv/bin/python -m gpu_bootstrap.check_speech 2>&1); then
        told speech ok "$((SECONDS - began)) s: $heard"
    else
        told speech failed "$(tail -n 1 <<<"$heard")"
    fi
}

case ${1:-} in
    -h | --help) usage; exit 0 ;;
    '') usage >&2; exit "$EX_USAGE" ;;
esac
(($# == 1)) || fail "$EX_USAGE" "takes one directory"
directory=$(release_directory "$1")
[[ -r $directory/venv/.staged ]] || fail "$EX_DATA" "$directory is not staged"
profile=$(cut -d' ' -f1 "$directory/venv/.staged")
environment "$directory/release.env"
environment "$ROOT/etc/whisperlive-edge/host.env"

disk
gpu
release
unit
ports
speech
exit "$failed"
