"""Everything that carries a stack's tag: found two ways, deleted kind by kind, and the proof that nothing is left.

AWS's tagging API knows every kind, late; the services know their own, now. A thing is touched only while its own
service says that it carries the tag.
"""

from __future__ import annotations

from whisperctl.deployment import kinds, kinds_ec2
from whisperctl.deployment.cloud import Cloud, error_code, plainly
from whisperctl.deployment.things import Kind, Look, Thing

__all__ = ["KINDS", "Thing", "delete", "find", "unknown"]

NOT_YET = (
    "DependencyViolation",
    "IncorrectState",
    "InUse",
    "InvalidParameterValue",
    "DeleteConflict",
    "CannotDelete",
    "BucketNotEmpty",
)
"""Something else must go first: tried again in the next round."""
KNOWN = (
    ":instance/",
    ":elastic-ip/",
    ":network-interface/",
    ":image/",
    ":volume/",
    ":snapshot/",
    ":key-pair/",
    ":subnet/",
    ":launch-template/",
    ":security-group/",
    ":security-group-rule/",
    ":route-table/",
    ":internet-gateway/",
    ":vpc/",
    ":table/",
    ":log-group:",
    ":document/",
    ":parameter/",
    ":alarm:",
    ":function:",
    ":rule/",
    ":apigateway:",
    ":role/",
    ":s3:::",
    ":sns:",
    ":cloudformation:",
)
"""Parts of the ARNs of what is asked of its own service."""

KINDS: dict[str, Kind] = kinds_ec2.KINDS | kinds.KINDS
"""In the order in which they can go."""


def find(cloud: Cloud, stack: str) -> list[Thing]:
    """Everything of every kind that carries the tag now."""
    look = Look(cloud, stack)
    with plainly():
        return [thing for kind in KINDS.values() for thing in kind.find(look)]


def unknown(cloud: Cloud, stack: str) -> list[str]:
    """ARNs under the tag of kinds that are not deleted here. The tagging API may name one that went minutes ago."""
    with plainly():
        return [arn for arn in Look(cloud, stack).arns if not any(part in arn for part in KNOWN)]


def delete(cloud: Cloud, thing: Thing) -> bool:
    """Delete it; False where something else must go first, True also where it was gone."""
    from botocore.exceptions import ClientError

    with plainly():
        try:
            KINDS[thing.kind].delete(cloud, thing)
        except ClientError as error:
            if kinds.is_gone(error):
                return True
            if any(word in error_code(error) for word in NOT_YET):
                return False
            raise
    return True
