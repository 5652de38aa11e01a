"""What can be known before anything is made: rights, images, zones that have the types, the account's GPU quota."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from whisperctl.deployment.cloud import Cloud, NotAllowed, error_code, plainly
from whisperctl.deployment.settings import Settings
from whisperctl.errors import CtlError, Refused

GPU_QUOTA = "L-DB2E81BA"
"""Running On-Demand G and VT instances, in virtual CPUs; 0 in many a new account."""
GPU_FAMILIES = re.compile(r"(g|vt)\d")
ARM = re.compile(r"[a-z]+\d+g")
"""Families with a g after the generation run on Graviton: t4g, c7g, g5g; g4dn does not."""


def architecture(instance_type: str) -> str:
    """arm64 or x86_64."""
    return "arm64" if ARM.match(instance_type) else "x86_64"


def images(cloud: Cloud, template: Mapping[str, Any], types: Mapping[str, str]) -> dict[str, str]:
    """The current image for each parameter that names one, by AWS's own public parameters.

    `types`: the machine type behind each of these parameters.
    """
    found = {}
    for parameter, by_architecture in template.get("Metadata", {}).get("images", IMAGES).items():
        wanted = architecture(types[parameter])
        if wanted not in by_architecture:
            raise Refused(
                f"there is no image for {types[parameter]}: {wanted} machines cannot be {parameter[:-5]} hosts"
            )
        with plainly():
            answer = cloud.client("ssm").get_parameter(Name=by_architecture[wanted])
        found[parameter] = str(answer["Parameter"]["Value"])
    return found


IMAGES = {
    "GpuImage": {
        "x86_64": "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
    },
    "EdgeImage": {
        "arm64": "/aws/service/canonical/ubuntu/server/24.04/stable/current/arm64/hvm/ebs-gp3/ami-id",
        "x86_64": "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
    },
}


def zones(cloud: Cloud, settings: Settings) -> dict[str, str]:
    """ZoneA and ZoneB where nobody chose them: zones that have the GPU's type, the first one the edge's too."""
    if settings.values.get("VpcId"):
        return {}
    gpu, edge = settings.get("GpuType"), settings.get("EdgeType")
    having = {kind: _having(cloud, kind) for kind in {gpu, edge}}
    for kind in (gpu, edge):
        if not having[kind]:
            raise Refused(
                f"{settings.region} does not have {kind}: choose another type or region with `whisperctl init`"
            )
    first = settings.values.get("ZoneA", "")
    if first and first not in having[gpu]:
        raise Refused(f"{first} does not have {gpu}; these have it: {', '.join(sorted(having[gpu]))}")
    fit = sorted(having[gpu] & having[edge])
    if not first and not fit:
        raise Refused(f"no zone of {settings.region} has both {gpu} and {edge}")
    first = first or fit[0]
    second = settings.values.get("ZoneB", "")
    others = sorted(having[gpu] - {first}) or sorted(having[edge] - {first})
    if not second and not others:
        raise Refused(f"{settings.region} has one zone only with {gpu}; the network needs two")
    return {"ZoneA": first, "ZoneB": second or others[0]}


def _having(cloud: Cloud, kind: str) -> set[str]:
    with plainly():
        pages = cloud.client("ec2").get_paginator("describe_instance_type_offerings")
        found = pages.paginate(
            LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [kind]}]
        )
        return {str(one["Location"]) for page in found for one in page["InstanceTypeOfferings"]}


def quota(cloud: Cloud, settings: Settings, note: Callable[[str], None]) -> None:
    """Refused where the account may not run the GPU machine at all; a note where that cannot be known."""
    from botocore.exceptions import ClientError

    kind = settings.get("GpuType")
    if not GPU_FAMILIES.match(kind):
        return
    try:
        with plainly():
            described = cloud.client("ec2").describe_instance_types(InstanceTypes=[kind])["InstanceTypes"][0]
            cpus = int(described["VCpuInfo"]["DefaultVCpus"])
            try:
                answer = cloud.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=GPU_QUOTA)
            except ClientError as error:
                if error_code(error) in ("NoSuchResourceException", "AccessDeniedException"):
                    note(f"the account's GPU quota is not known ({error_code(error)}); {kind} needs {cpus}")
                    return
                raise
    except NotAllowed as error:
        note(f"the account's GPU quota is not known: {error.message}")
        return
    allowed = float(answer["Quota"]["Value"])
    if allowed < cpus:
        raise Refused(
            f"this account may run {allowed:g} virtual CPUs of GPU machines in {settings.region}, {kind} has {cpus}: "
            f"ask for more at https://console.aws.amazon.com/servicequotas (EC2, {GPU_QUOTA}, "
            f"Running On-Demand G and VT instances)"
        )


def check_parameters(template: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
    """CtlError where the template asks for a parameter that nobody knows."""
    missing = [
        name
        for name, about in template["Parameters"].items()
        if "Default" not in about and name not in parameters
    ]
    if missing:
        raise CtlError(
            f"the template asks for {', '.join(missing)}: name them with `whisperctl init --set NAME=VALUE`"
        )
