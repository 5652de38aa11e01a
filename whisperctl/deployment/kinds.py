"""The kinds of things outside EC2 that may carry a stack's tag: how each is found by it, and deleted.

Where a service cannot be asked by tag, the tagging API names what there may be; as it forgets late, each is asked of
its own service again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from whisperctl.deployment.cloud import TAG, Cloud, error_code
from whisperctl.deployment.things import Kind, Look, Thing

GONE = ("NotFound", "NoSuch", "InvalidDocument", "NonExistent", "ResourceNotFound", "InvalidID", "InvalidResourceId")
"""Words of the codes by which services say that a thing is not there."""


def is_gone(error: Any) -> bool:
    """Whether this ClientError says that the thing is not there."""
    return any(word in error_code(error) for word in GONE)


@dataclass(frozen=True, slots=True)
class Listed:
    """A kind whose service has no filter by tag: the tagging API's ARNs with `part`, each asked of its service.

    `argument` takes the ARN, `given` are further ones; `name` is what follows `prefix` in the ARN.
    """

    kind: str
    part: str
    prefix: str
    service: str
    operation: str
    argument: str
    answer: str
    given: Mapping[str, str] = field(default_factory=dict)
    by_name: bool = False
    """The argument takes the name instead."""

    def __call__(self, look: Look) -> Iterator[Thing]:
        from botocore.exceptions import ClientError

        for arn in look.arns:
            if self.part not in arn:
                continue
            name = arn.split(":", 5)[5].removeprefix(self.prefix)
            asked = {self.argument: name if self.by_name else arn, **self.given}
            try:
                held = getattr(look.client(self.service), self.operation)(**asked)[self.answer]
            except ClientError as error:
                if is_gone(error):
                    continue
                raise
            tags = held if isinstance(held, Mapping) else {one["Key"]: one["Value"] for one in held}
            if tags.get(TAG) == look.stack:
                yield Thing(self.kind, name, arn)


def bucket_is_ours(look: Look, bucket: str) -> bool:
    """Whether the bucket itself says that it is the stack's."""
    from botocore.exceptions import ClientError

    try:
        tags = look.client("s3").get_bucket_tagging(Bucket=bucket)["TagSet"]
    except ClientError as error:
        if error_code(error) in ("NoSuchBucket", "NoSuchTagSet", "404"):
            return False
        raise
    return {"Key": TAG, "Value": look.stack} in tags


def _buckets(look: Look) -> Iterator[Thing]:
    """By listing: a bucket that is a minute old must not be missed."""
    own = [
        str(one["Name"])
        for one in look.client("s3").list_buckets()["Buckets"]
        if str(one["Name"]).startswith(look.stack)
    ]
    listed = [arn.rpartition(":")[2] for arn in look.arns if ":s3:::" in arn]
    for name in dict.fromkeys([*own, *listed]):
        if bucket_is_ours(look, name):
            yield Thing("bucket", name)


def _empty_and_delete(cloud: Cloud, thing: Thing) -> None:
    """Every version, every delete marker and every unfinished upload, then the bucket."""
    s3 = cloud.client("s3")
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=thing.id):
        gone = [
            {"Key": one["Key"], "VersionId": one["VersionId"]}
            for one in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        ]
        if gone:
            s3.delete_objects(Bucket=thing.id, Delete={"Objects": gone, "Quiet": True})
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=thing.id):
        for one in page.get("Uploads", []):
            s3.abort_multipart_upload(Bucket=thing.id, Key=one["Key"], UploadId=one["UploadId"])
    s3.delete_bucket(Bucket=thing.id)


def _tables(look: Look) -> Iterator[Thing]:
    """The table is called as the stack is; the tag decides."""
    from botocore.exceptions import ClientError

    dynamodb = look.client("dynamodb")
    try:
        arn = dynamodb.describe_table(TableName=look.stack)["Table"]["TableArn"]
        tags = dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"]
    except ClientError as error:
        if error_code(error) == "ResourceNotFoundException":
            return
        raise
    if {"Key": TAG, "Value": look.stack} in tags:
        yield Thing("table", look.stack)


def _log_groups(look: Look) -> Iterator[Thing]:
    """By the names that the template gives them, which are there at once, and by the tagging API."""
    logs = look.client("logs")
    found: dict[str, str] = {}
    for prefix in (f"/aws/lambda/{look.stack}-", f"/aws/apigateway/{look.stack}"):
        for page in logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix):
            found |= {str(one["logGroupName"]): str(one["arn"]).removesuffix(":*") for one in page["logGroups"]}
    for arn in look.arns:
        if ":log-group:" in arn:
            found.setdefault(arn.partition(":log-group:")[2].removesuffix(":*"), arn.removesuffix(":*"))
    for name, arn in found.items():
        if _carries(logs, arn, look.stack):
            yield Thing("log group", name)


def _carries(logs: Any, arn: str, stack: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        return bool(logs.list_tags_for_resource(resourceArn=arn)["tags"].get(TAG) == stack)
    except ClientError as error:
        if error_code(error) == "ResourceNotFoundException":
            return False
        raise


def _delete_table(cloud: Cloud, thing: Thing) -> None:
    cloud.client("dynamodb").delete_table(TableName=thing.id)


def _roles(look: Look) -> Iterator[Thing]:
    """By the names that CloudFormation gives them: the tagging API does not know roles."""
    iam = look.client("iam")
    for page in iam.get_paginator("list_roles").paginate():
        for one in page["Roles"]:
            name = str(one["RoleName"])
            if name.startswith(f"{look.stack}-") and _role_is_ours(iam, name, look.stack):
                yield Thing("role", name, look.stack)


def _role_is_ours(iam: Any, name: str, stack: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        return {"Key": TAG, "Value": stack} in iam.list_role_tags(RoleName=name)["Tags"]
    except ClientError as error:
        if is_gone(error):
            return False
        raise


def _delete_role(cloud: Cloud, thing: Thing) -> None:
    """With what hangs on it. A profile made for it alone carries no tag of its own, and goes with it."""
    iam = cloud.client("iam")
    for profile in iam.list_instance_profiles_for_role(RoleName=thing.id)["InstanceProfiles"]:
        name = profile["InstanceProfileName"]
        iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=thing.id)
        if name.startswith(f"{thing.about}-"):
            iam.delete_instance_profile(InstanceProfileName=name)
    for policy in iam.list_role_policies(RoleName=thing.id)["PolicyNames"]:
        iam.delete_role_policy(RoleName=thing.id, PolicyName=policy)
    for attached in iam.list_attached_role_policies(RoleName=thing.id)["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=thing.id, PolicyArn=attached["PolicyArn"])
    iam.delete_role(RoleName=thing.id)


def _parameters(look: Look) -> Iterator[Thing]:
    pages = look.client("ssm").get_paginator("describe_parameters")
    for page in pages.paginate(ParameterFilters=[{"Key": f"tag:{TAG}", "Values": [look.stack]}]):
        for one in page["Parameters"]:
            yield Thing("parameter", str(one["Name"]))


def _delete_rule(cloud: Cloud, thing: Thing) -> None:
    events = cloud.client("events")
    targets = [one["Id"] for one in events.list_targets_by_rule(Rule=thing.id)["Targets"]]
    if targets:
        events.remove_targets(Rule=thing.id, Ids=targets)
    events.delete_rule(Name=thing.id)


def _delete_api(cloud: Cloud, thing: Thing) -> None:
    """A stage's ARN names its API first; deleting the API deletes its stages."""
    cloud.client("apigateway").delete_rest_api(restApiId=thing.id.split("/")[0])


KINDS: dict[str, Kind] = {
    "bucket": Kind(_buckets, _empty_and_delete),
    "table": Kind(_tables, _delete_table),
    "log group": Kind(_log_groups, lambda c, t: c.client("logs").delete_log_group(logGroupName=t.id)),
    "topic": Kind(
        Listed("topic", ":sns:", "", "sns", "list_tags_for_resource", "ResourceArn", "Tags"),
        lambda c, t: c.client("sns").delete_topic(TopicArn=t.about),
    ),
    "SSM document": Kind(
        Listed(
            "SSM document",
            ":document/",
            "document/",
            "ssm",
            "list_tags_for_resource",
            "ResourceId",
            "TagList",
            {"ResourceType": "Document"},
            by_name=True,
        ),
        lambda c, t: c.client("ssm").delete_document(Name=t.id),
    ),
    "parameter": Kind(_parameters, lambda c, t: c.client("ssm").delete_parameter(Name=t.id)),
    "alarm": Kind(
        Listed("alarm", ":alarm:", "alarm:", "cloudwatch", "list_tags_for_resource", "ResourceARN", "Tags"),
        lambda c, t: c.client("cloudwatch").delete_alarms(AlarmNames=[t.id]),
    ),
    "rule": Kind(
        Listed("rule", ":rule/", "rule/", "events", "list_tags_for_resource", "ResourceARN", "Tags"),
        _delete_rule,
    ),
    "API": Kind(
        Listed("API", ":apigateway:", "/restapis/", "apigateway", "get_tags", "resourceArn", "tags"),
        _delete_api,
    ),
    "function": Kind(
        Listed("function", ":function:", "function:", "lambda", "list_tags", "Resource", "Tags"),
        lambda c, t: c.client("lambda").delete_function(FunctionName=t.id),
    ),
    "role": Kind(_roles, _delete_role),
}
"""In the order in which they can go."""
