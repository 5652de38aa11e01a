"""The form of a finding, and the judgements: facts in, findings out, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

GPU_PORT = 9090
QUOTA = "L-DB2E81BA"
"""Running On-Demand G and VT instances, in vCPUs."""
SKEW_S = 30.0
DISK_PERCENT = 10
AGENT_S = 900.0
"""SSM's own measure of a lost agent is a quarter of an hour without a ping."""
LAMBDA_LEAST = 50
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Verdict(StrEnum):
    """What a look came to."""

    OK = "ok"
    PROBLEM = "problem"
    WARNING = "warning"
    SKIPPED = "skipped"
    """Nobody could look, or there is nothing to look at; the detail says why."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. A problem and a warning have a remedy."""

    name: str
    verdict: Verdict
    detail: str
    remedy: str = ""


def ok(name: str, detail: str) -> Finding:
    return Finding(name, Verdict.OK, detail)


def problem(name: str, detail: str, remedy: str) -> Finding:
    return Finding(name, Verdict.PROBLEM, detail, remedy)


def warning(name: str, detail: str, remedy: str) -> Finding:
    return Finding(name, Verdict.WARNING, detail, remedy)


def skipped(name: str, detail: str) -> Finding:
    return Finding(name, Verdict.SKIPPED, detail)


def secure_context(edge_url: str) -> Finding:
    """A browser gives its microphone to pages of a secure context only."""
    parts = urlsplit(edge_url)
    if parts.scheme == "https" or parts.hostname in LOOPBACK:
        return ok("browser", f"{edge_url} is a secure context: browsers give the microphone")
    remedy = "open the page by https://; plain http is secure on localhost only"
    return problem("browser", f"{edge_url} is no secure context: no browser gives its microphone there", remedy)


def clock_skew(seconds: float, whose: str) -> Finding:
    """`seconds`: how much that clock is ahead of the other one."""
    name = "clock" if whose == "here" else f"clock of {whose}"
    if abs(seconds) <= SKEW_S:
        return ok(name, f"within {max(1.0, abs(seconds)):.0f} s")
    ahead = "ahead" if seconds > 0 else "behind"
    remedy = "set it by NTP (timedatectl set-ntp true): tickets, tokens and AWS signatures all carry times"
    return problem(name, f"{abs(seconds):.0f} s {ahead}", remedy)


def certificate(days: float | None, trouble: str, internal: bool) -> Finding:
    """`trouble` is what the TLS library said against it; `internal`: by the edge's own authority."""
    if trouble:
        remedy = "see why it is not renewed: whisperctl logs edge (ACME needs 80 and 443 open)"
        if "self" in trouble or "unable to get local issuer" in trouble:
            remedy = "trust the edge's own authority (WHISPERCTL_CA), or give the edge a domain and ACME"
        return problem("certificate", trouble, remedy)
    if days is None:
        return skipped("certificate", "none is shown: the address is not https")
    left = f"{days:.0f} days left" if days >= 2 else f"{days * 24:.0f} hours left"
    # Certificates of the internal authority live half a day, ACME's at least six days; both are renewed at a third.
    if days < (0.08 if internal else 1.0):
        return problem("certificate", left, "see why it is not renewed: whisperctl logs edge")
    if not internal and days < 7:
        return warning("certificate", left, "fine for one of six days; else see whisperctl logs edge")
    return ok("certificate", left)


def service(status: Mapping[str, Any]) -> Iterator[Finding]:
    """What the control plane says of itself."""
    phase, reason = str(status["phase"]), str(status.get("reason") or "")
    if phase == "failed":
        yield problem("service", reason, str(status.get("remedy") or "whisperctl logs gpu"))
    elif phase == "waking.capacity":
        yield warning("service", reason, "it is tried again; more types in GPU_TYPES or a standby help")
    else:
        yield ok("service", f"{phase}: {reason}")
    admitted = status.get("admission") or {}
    if admitted.get("open") is False:
        how = "a booking opens it (whisperctl book), and so does whisperctl wake by an operator"
        yield warning("admission", str(admitted.get("because")), how)
    edge = status.get("edge") or {}
    if not edge:
        yield problem("upstream", "the stack shows no edge host", "whisperctl up, or tag the edge machine")
    elif not edge.get("reported_at"):
        yield problem("upstream", "the edge has never reported", "whisperctl logs edge --unit link")
    elif edge.get("upstream_ok"):
        yield ok("upstream", f"the edge forwards to {', '.join(edge.get('upstreams') or [])}")
    else:
        held = ", ".join(edge.get("upstreams") or []) or "nobody"
        yield problem("upstream", f"the edge forwards to {held}, which is not what is due", "whisperctl refresh")


def device(status: Mapping[str, Any]) -> Finding:
    """A GPU machine whose service computes on the CPU lacks its driver."""
    gpu = status.get("gpu") or {}
    found, kind = gpu.get("device"), str(gpu.get("type") or "")
    if found is None:
        return skipped("device", "the GPU host sleeps or has not reported")
    if kind.startswith(("g", "p")) and not str(found).startswith("cuda"):
        remedy = "use an image with NVIDIA's driver 550 or newer (GpuImage), then whisperctl deploy gpu"
        return problem("device", f"{kind} computes on {found}: driver or CUDA libraries are missing", remedy)
    return ok("device", f"{kind} computes on {found}")


def quota(vcpus: float, needed: int, kind: str) -> Finding:
    """Whether the account may run one machine of this type."""
    if vcpus >= needed:
        return ok("quota", f"{vcpus:.0f} vCPUs of G instances; {kind} needs {needed}")
    remedy = f"Service Quotas, EC2, 'Running On-Demand G and VT instances' ({QUOTA}): ask for {needed} or more"
    return problem("quota", f"{vcpus:.0f} vCPUs of G instances are allowed; {kind} needs {needed}", remedy)


def shutdown_behaviour(instance_id: str, behaviour: str) -> Finding:
    """A host that powers itself off must stop, and not be gone."""
    name = f"shutdown of {instance_id}"
    if behaviour == "stop":
        return ok(name, "it stops when it powers itself off")
    how = f"aws ec2 modify-instance-attribute --instance-id {instance_id} --instance-initiated-shutdown-behavior stop"
    return problem(name, f"it would {behaviour} when it powers itself off, disk and all", how)


def agent(instance_id: str, info: Mapping[str, Any] | None, launched: datetime | None, now: datetime) -> Finding:
    """SSM's agent: installs, repairs and refreshes go by it; streams do not need it."""
    name = f"agent of {instance_id}"
    remedy = (
        "look whether the role has AmazonSSMManagedInstanceCore and the host reaches the internet "
        "(or SSM's endpoints); then restart the machine"
    )
    if info is None:
        return problem(name, "SSM has never heard of it", remedy)
    seen: datetime | None = info.get("LastPingDateTime")
    silent_s = None if seen is None or (launched and seen < launched) else (now - seen).total_seconds()
    if info.get("PingStatus") == "Online" and silent_s is not None and silent_s < AGENT_S:
        return ok(name, f"online, version {info.get('AgentVersion') or 'unknown'}")
    ago = "never since its start" if silent_s is None else f"{silent_s:.0f} s ago"
    return problem(name, f"{info.get('PingStatus') or 'unknown'}, last heard {ago}", remedy)


def security(gpu: Sequence[Mapping[str, Any]], edge: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """The groups of a GPU machine and of the edge: 9090 from the edge and from nobody else, 80 and 443 in."""
    edges = {str(one["GroupId"]) for one in edge}
    let_in = [rule for group in gpu for rule in group.get("IpPermissions", []) if _covers(rule, GPU_PORT)]
    sources = {str(pair["GroupId"]) for rule in let_in for pair in rule.get("UserIdGroupPairs", [])}
    remedy = f"let the edge's security group {', '.join(sorted(edges))} in on {GPU_PORT}: whisperctl up mends it"
    if sources & edges:
        yield ok("security path", f"the edge may reach the GPU on {GPU_PORT}")
    else:
        yield problem("security path", f"nothing lets the edge reach the GPU on {GPU_PORT}", remedy)
    wide = [
        str(one.get("CidrIp") or one.get("CidrIpv6"))
        for group in gpu
        for rule in group.get("IpPermissions", [])
        for one in (*rule.get("IpRanges", []), *rule.get("Ipv6Ranges", []))
    ]
    if wide:
        words = f"addresses are let in to the GPU: {', '.join(sorted(set(wide)))}"
        yield problem("GPU closed", words, "take these rules out: only the edge's group belongs there")
    else:
        yield ok("GPU closed", "no address is let in to the GPU")
    shut = [
        port for port in (80, 443) if not any(_covers(rule, port) for one in edge for rule in one["IpPermissions"])
    ]
    if shut:
        words = f"the edge lets nobody in on {' and '.join(map(str, shut))}"
        yield problem(
            "edge open", words, "open 80 and 443: browsers and ACME need them; whisperctl clients limits who"
        )
    else:
        yield ok("edge open", "80 and 443 are open")
    if any(_covers(rule, 22) for one in (*gpu, *edge) for rule in one["IpPermissions"]):
        yield warning("port 22", "SSH is open", "close it: whisperctl shell needs no port")


def _covers(rule: Mapping[str, Any], port: int) -> bool:
    protocol = str(rule.get("IpProtocol"))
    return protocol == "-1" or (
        protocol == "tcp" and int(rule.get("FromPort", 0)) <= port <= int(rule.get("ToPort", 65535))
    )


def image(machines: Mapping[str, str], images: Mapping[str, Mapping[str, Any]], now: datetime) -> Iterator[Finding]:
    """`machines`: GPU machine → image id. Drifted images break CUDA libraries; vanished ones a replacement."""
    for instance_id, image_id in machines.items():
        about = images.get(image_id)
        if about is None or about.get("State") not in (None, "available"):
            words = f"{instance_id} runs {image_id}, which is no longer to be had: it could not be replaced"
            yield warning("image", words, "set GpuImage to a current one, and replace the machine when it suits")
        elif about.get("Architecture") not in (None, "x86_64"):
            words = f"{image_id} is for {about['Architecture']}; G instances with NVIDIA's GPUs are x86_64"
            yield problem("image", words, "set GpuImage to an x86_64 image with NVIDIA's driver")
        elif (end := about.get("DeprecationTime")) and datetime.fromisoformat(end.replace("Z", "+00:00")) < now:
            yield warning("image", f"{image_id} is deprecated since {end[:10]}", "set GpuImage to a current one")
        else:
            yield ok("image", f"{image_id} ({about.get('Name') or 'no name'})")
    if len(set(machines.values())) > 1:
        words = "the GPU machines run different images: " + ", ".join(sorted(set(machines.values())))
        yield warning("image", words, "give all of them the same: a standby must do what the first one does")


def lambda_limit(concurrency: int) -> Finding:
    """New accounts begin with 10 at once for everything."""
    if concurrency >= LAMBDA_LEAST:
        return ok("lambda limit", f"{concurrency} calls at once")
    words = f"the account runs {concurrency} Lambda calls at once, of all its functions together"
    remedy = "Service Quotas, Lambda, 'Concurrent executions': ask for 1000, which is the usual"
    return warning("lambda limit", words, remedy)


def subscriptions(found: Sequence[Mapping[str, Any]], webhook: bool) -> Finding:
    """Whether somebody would hear of a failure."""
    pending = [one for one in found if one.get("SubscriptionArn") == "PendingConfirmation"]
    if pending:
        words = f"{len(pending)} subscriptions of the topic are not confirmed"
        return warning("notifications", words, "open the mail from AWS Notifications and confirm")
    if not found and not webhook:
        remedy = "set NotifyEmail, or a webhook: whisperctl notify webhook"
        return warning("notifications", "nobody would be told of a failure", remedy)
    channels = [*([f"{len(found)} subscriptions"] if found else []), *(["a webhook"] if webhook else [])]
    return ok("notifications", " and ".join(channels))


def on_host(host: str, role: str, text: str, now: float) -> Iterator[Finding]:
    """What the document `examine` printed on a host: `word value…` lines. `now`: epoch seconds of the asker."""
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        values = rest.split()
        if word == "epoch" and rest.isdigit():
            yield clock_skew(float(rest) - now, host)
        elif word == "disk_free_percent" and rest.isdigit():
            yield _disk(host, int(rest))
        elif word == "unit" and len(values) == 3:
            yield _unit(host, role, *values)
        elif word == "driver":
            yield _driver(host, rest)
        elif word == "reach" and len(values) == 2:
            yield _reach(values[0], values[1])


def _disk(host: str, free: int) -> Finding:
    if free >= DISK_PERCENT:
        return ok(f"disk of {host}", f"{free} % free")
    remedy = "make room: old releases under /opt go with the next rollout; journalctl --vacuum-size=200M"
    return problem(f"disk of {host}", f"{free} % free", remedy)


def _unit(host: str, role: str, unit: str, enabled: str, active: str) -> Finding:
    name = f"{unit} on {host}"
    if enabled != "enabled":
        remedy = f"whisperctl deploy {role} --force puts the units in place; or systemctl enable {unit}"
        return problem(name, "not enabled: it would not start at the next boot", remedy)
    if active != "active":
        return problem(name, "enabled, and not running", f"whisperctl restart {role}; whisperctl logs {role}")
    return ok(name, "enabled and running")


def _driver(host: str, said: str) -> Finding:
    if said == "not_needed":
        return skipped(f"driver of {host}", "the cpu profile needs none")
    if said and said != "none":
        return ok(f"driver of {host}", said)
    remedy = "use an image that brings NVIDIA's driver 550 or newer (GpuImage), then replace the machine"
    return problem(f"driver of {host}", "nvidia-smi does not answer", remedy)


def _reach(address: str, said: str) -> Finding:
    if said == "yes":
        return ok("edge reaches GPU", f"{address}:{GPU_PORT}")
    remedy = "whisperctl restart gpu; if that does not help, the security groups: 9090 from the edge's group"
    return problem("edge reaches GPU", f"the edge cannot connect to {address}:{GPU_PORT}", remedy)


SIGNS = (
    (
        r"finite numbers; is it really float32|is not whole float32 samples",
        "audio format",
        "a client sends Int16 or compressed audio",
        "send raw Float32 mono PCM at 16 kHz (divide Int16 by 32768); whisperctl stream does",
    ),
    (
        r"CUDA (error: )?out of memory|CUBLAS_STATUS_ALLOC_FAILED",
        "GPU memory",
        "the GPU's memory is used up",
        "take a smaller model or fewer streams (WHISPER_MAX_STREAMS)",
    ),
    (
        r"CUDA driver version is insufficient|libcud(nn|art)|libcublas",
        "CUDA libraries",
        "CUDA's libraries do not fit the driver",
        "deploy the release again on an image with driver 550 or newer",
    ),
    (
        r"No space left on device",
        "disk",
        "the disk is full",
        "make room: journalctl --vacuum-size=200M; then whisperctl restart",
    ),
    (
        r"model.{0,40}(hash|sha256|does not match|cannot be (read|loaded))",
        "model",
        "the model's files are not what they should be",
        "whisperctl deploy gpu --force fetches them again",
    ),
)
"""What a log says, and what it means: pattern, name, meaning, remedy."""


def signs(host: str, log: str) -> Iterator[Finding]:
    """Known troubles in the last lines of a host's log."""
    for pattern, name, meaning, remedy in SIGNS:
        found = len(re.findall(pattern, log, re.IGNORECASE))
        if found:
            yield warning(name, f"{meaning} ({found} times in the last lines of {host}'s log)", remedy)
