"""`make audit`: checkov on the packaged template. What it finds and we accept stands here, with the reason.

    python -m tests.package.audit

Exit code 0 when checkov finds exactly what is accepted; a finding that is gone must leave the list too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path

from whisperctl.packaging import ROOT, build

CHECKOV = ROOT / "build" / "checkov" / "bin" / "checkov"
ACCEPTED = {
    (
        "CKV_AWS_18",
        "*.Bucket",
    ): "Who reads the bucket is in CloudTrail; access logs would be a second bucket to keep.",
    ("CKV_AWS_26", "*.Topic"): "CloudWatch's alarms may not publish to a topic under AWS's own key.",
    ("CKV_AWS_73", "*.RestAPI"): "X-Ray costs 285 ms of each cold start; calls carry a correlation id instead.",
    ("CKV_AWS_88", "*.Edge"): "The edge is what the internet reaches.",
    ("CKV_AWS_115", "*Function*"): "New accounts have too little concurrency to reserve any; the API is throttled.",
    ("CKV_AWS_116", "*Function*"): "An event that comes late is worth nothing: the next tick makes it right.",
    ("CKV_AWS_117", "*Function*"): "They talk to AWS's own endpoints only; a VPC would add a NAT and its price.",
    ("CKV_AWS_119", "*.Table"): "Encrypted with DynamoDB's key; one of our own adds a price and no reader less.",
    ("CKV_AWS_120", "*.RestAPI"): "Answers are of this moment and for one caller.",
    ("CKV_AWS_158", "*Logs*"): "Encrypted by CloudWatch; no secret is logged.",
    ("CKV_AWS_173", "*Function*"): "No secret stands in the environment.",
    ("CKV_AWS_260", "*.EdgeSecurityGroup"): "Port 80 redirects to HTTPS and answers ACME.",
}
"""(checkov's check, the resource it is about) → why it is so."""


def findings(template: Path) -> set[tuple[str, str]]:
    """What checkov finds wrong: (check, resource)."""
    if not CHECKOV.exists():
        raise SystemExit("there is no build/checkov: run `make audit`")
    options = ["--framework", "cloudformation", "--skip-download", "--quiet", "--compact", "--output", "json"]
    run = subprocess.run(
        [str(CHECKOV), "--file", str(template), *options], capture_output=True, text=True, timeout=600, check=False
    )
    try:
        said = json.loads(run.stdout)
    except json.JSONDecodeError:
        raise SystemExit(f"checkov did not answer:\n{run.stdout[-1000:]}\n{run.stderr[-2000:]}") from None
    if said["summary"]["parsing_errors"] or not said["summary"]["passed"]:
        raise SystemExit(f"checkov could not read the template: {said['summary']}")
    return {(one["check_id"], one["resource"]) for one in said["results"]["failed_checks"]}


def main() -> int:
    """0 when nothing is found beyond what is accepted, and nothing is accepted that is not found."""
    with tempfile.TemporaryDirectory() as folder:
        found = findings(build(Path(folder)).template)
    used = {key for key in ACCEPTED for check, resource in found if check == key[0] and fnmatch(resource, key[1])}
    new = sorted(
        (check, resource)
        for check, resource in found
        if not any(check == key[0] and fnmatch(resource, key[1]) for key in ACCEPTED)
    )
    for check, resource in new:
        sys.stderr.write(f"audit: {check} on {resource} is new: mend it, or say in tests/package/audit.py why not\n")
    for check, resource in sorted(set(ACCEPTED) - used):
        sys.stderr.write(f"audit: {check} on {resource} is accepted and no longer found: take it out\n")
    if new or set(ACCEPTED) - used:
        return 1
    sys.stdout.write(f"audit: {len(found)} findings, all accepted with a reason ({len(ACCEPTED)} reasons)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
