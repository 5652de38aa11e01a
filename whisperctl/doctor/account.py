"""At AWS: what the account allows, what the machines are, what may reach what. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from whisperctl.aws import Account
from whisperctl.doctor.findings import (
    QUOTA,
    Finding,
    Verdict,
    agent,
    image,
    lambda_limit,
    ok,
    problem,
    quota,
    security,
    shutdown_behaviour,
    skipped,
    subscriptions,
    warning,
)
from whisperctl.errors import UsageError

STACK_TAG, ROLE_TAG = "whisperlive-edge:stack", "whisperlive-edge:role"
AWAKE = ("running",)
GONE = ("terminated", "shutting-down")


class AwsLook:
    """`look()` yields findings; afterwards `machines` are those of the stack, as EC2 describes them."""

    def __init__(self, account: Account, now: datetime | None = None) -> None:
        self._account = account
        self._now = now or datetime.now(UTC)
        self.machines: list[dict[str, Any]] = []

    @property
    def local(self) -> bool:
        """Whether a stand-in plays AWS: it has no quotas, images, security groups or alarms to look at."""
        return self._account.endpoint is not None

    def look(self) -> Iterator[Finding]:
        """Credentials first: without them nothing else can be asked."""
        looked = list(self._asked("credentials", self._identity))
        yield from looked
        if any(one.verdict is not Verdict.OK for one in looked):
            return
        checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [("machines", self._machines)]
        if self.local:
            yield skipped("account", "the embedded cloud has no quotas, images, security groups and alarms")
        else:
            checks = [("stack", self._stack), *checks, ("quota", self._quota), ("lambda limit", self._lambda)]
            checks += [("image", self._images), ("security path", self._security), ("alarms", self._alarms)]
        checks += [("shutdown", self._shutdown), ("agent", self._agents), ("notifications", self._notifications)]
        for name, check in checks:
            yield from self._asked(name, check)

    def of(self, role: str, states: Sequence[str] = ()) -> list[dict[str, Any]]:
        """The machines of a role; in these states only, where some are named."""
        return [
            one
            for one in self.machines
            if _tag(one, ROLE_TAG) == role and (not states or one["State"]["Name"] in states)
        ]

    def _asked(self, name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
        """A check whose refusals become findings: what may not be asked is skipped, not taken for broken."""
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            NoCredentialsError,
            NoRegionError,
            ProfileNotFound,
        )

        try:
            yield from check()
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in (
                "ExpiredToken",
                "ExpiredTokenException",
                "InvalidClientTokenId",
                "UnrecognizedClientException",
            ):
                yield problem("credentials", f"AWS does not take them: {code}", "sign in again, or set AWS_PROFILE")
            elif "AccessDenied" in code or "Unauthorized" in code:
                yield skipped(name, f"these credentials may not call {error.operation_name}")
            else:
                yield skipped(name, f"{error.operation_name}: {code}")
        except (NoCredentialsError, ProfileNotFound):
            yield problem("credentials", "there are none", "aws sso login, or set AWS_PROFILE")
        except (NoRegionError, UsageError):
            yield problem("region", "none is set", "set AWS_REGION to the stack's region")
        except BotoCoreError as error:
            yield problem(name, f"AWS is not reachable: {error}", "look at the network, and at AWS_ENDPOINT_URL")

    def _identity(self) -> Iterator[Finding]:
        client = self._account.client("sts")
        who = client.get_caller_identity()
        yield ok("credentials", str(who["Arn"]))
        yield ok("region", str(client.meta.region_name))

    def _stack(self) -> Iterator[Finding]:
        from botocore.exceptions import ClientError

        name = self._account.stack
        try:
            found = self._account.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" not in str(error):
                raise
            yield problem("stack", f"there is no {name} in this region", "set AWS_REGION, or run whisperctl up")
            return
        state = str(found["StackStatus"])
        if state.endswith("_IN_PROGRESS"):
            yield warning("stack", f"{name}: {state}", "wait until CloudFormation is done")
        elif "ROLLBACK" in state or "FAILED" in state:
            yield problem("stack", f"{name}: {state}", "CloudFormation's events say why; then whisperctl up again")
        else:
            yield ok("stack", f"{name}: {state}")

    def _machines(self) -> Iterator[Finding]:
        filters = [{"Name": f"tag:{STACK_TAG}", "Values": [self._account.stack]}]
        pages = self._account.client("ec2").get_paginator("describe_instances").paginate(Filters=filters)
        found = [one for page in pages for group in page["Reservations"] for one in group["Instances"]]
        self.machines = [one for one in found if one["State"]["Name"] not in GONE]
        for role in ("gpu", "edge"):
            mine = self.of(role)
            if not mine:
                remedy = (
                    f"whisperctl up makes one; or tag yours: {STACK_TAG}={self._account.stack}, {ROLE_TAG}={role}"
                )
                yield problem(f"{role} machine", "none is tagged as this stack's", remedy)
            for one in mine:
                yield ok(f"{role} machine", f"{one['InstanceId']} {one['InstanceType']} {one['State']['Name']}")
        if self.of("edge") and not self.of("edge", AWAKE):
            ids = " ".join(one["InstanceId"] for one in self.of("edge"))
            yield problem("edge machine", "it does not run", f"aws ec2 start-instances --instance-ids {ids}")

    def _quota(self) -> Iterator[Finding]:
        kinds = sorted({one["InstanceType"] for one in self.of("gpu")})
        if not kinds:
            return
        quotas = self._account.client("service-quotas")
        allowed = float(quotas.get_service_quota(ServiceCode="ec2", QuotaCode=QUOTA)["Quota"]["Value"])
        answer = self._account.client("ec2").describe_instance_types(InstanceTypes=kinds)
        for kind in answer["InstanceTypes"]:
            if str(kind["InstanceType"]).startswith(("g", "vt")):
                yield quota(allowed, int(kind["VCpuInfo"]["DefaultVCpus"]), str(kind["InstanceType"]))

    def _lambda(self) -> Iterator[Finding]:
        limits = self._account.client("lambda").get_account_settings()["AccountLimit"]
        yield lambda_limit(int(limits["ConcurrentExecutions"]))

    def _images(self) -> Iterator[Finding]:
        machines = {str(one["InstanceId"]): str(one["ImageId"]) for one in self.of("gpu")}
        if not machines:
            return
        wanted = [{"Name": "image-id", "Values": sorted(set(machines.values()))}]
        found = self._account.client("ec2").describe_images(Filters=wanted, IncludeDeprecated=True)["Images"]
        yield from image(machines, {str(one["ImageId"]): one for one in found}, self._now)

    def _security(self) -> Iterator[Finding]:
        gpus, edges = self.of("gpu"), self.of("edge")
        if not gpus or not edges:
            return
        ec2 = self._account.client("ec2")
        groups = {
            id(one): ec2.describe_security_groups(GroupIds=[group["GroupId"] for group in one["SecurityGroups"]])[
                "SecurityGroups"
            ]
            for one in (*gpus, *edges)
        }
        for gpu in gpus:
            yield from security(groups[id(gpu)], groups[id(edges[0])])

    def _alarms(self) -> Iterator[Finding]:
        cloudwatch = self._account.client("cloudwatch")
        pages = cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{self._account.stack}-")
        found = [one for page in pages for one in page["MetricAlarms"]]
        ringing = [one for one in found if one["StateValue"] == "ALARM"]
        for one in ringing:
            words = f"{one['AlarmName']}: {one.get('AlarmDescription') or one.get('StateReason')}"
            yield problem("alarms", words, "the function's log in CloudWatch; whisperctl events")
        if not found:
            yield warning("alarms", "the stack has none", "whisperctl up: the template brings them")
        elif not ringing:
            yield ok("alarms", f"{len(found)}, none of them rings")

    def _shutdown(self) -> Iterator[Finding]:
        ec2 = self._account.client("ec2")
        for one in self.machines:
            answer = ec2.describe_instance_attribute(
                InstanceId=one["InstanceId"], Attribute="instanceInitiatedShutdownBehavior"
            )
            behaviour = str(answer["InstanceInitiatedShutdownBehavior"].get("Value") or "stop")
            yield shutdown_behaviour(str(one["InstanceId"]), behaviour)

    def _agents(self) -> Iterator[Finding]:
        running = [one for one in self.machines if one["State"]["Name"] in AWAKE]
        if not running:
            yield skipped("agent", "no machine is awake")
            return
        ids = [str(one["InstanceId"]) for one in running]
        answer = self._account.client("ssm").describe_instance_information(
            Filters=[{"Key": "InstanceIds", "Values": ids}]
        )
        heard = {str(one["InstanceId"]): one for one in answer["InstanceInformationList"]}
        for one in running:
            instance_id = str(one["InstanceId"])
            yield agent(instance_id, heard.get(instance_id), one.get("LaunchTime"), self._now)

    def _notifications(self) -> Iterator[Finding]:
        sns = self._account.client("sns")
        name = self._account.stack
        found = [
            one
            for arn in topics(sns, name)
            for one in sns.list_subscriptions_by_topic(TopicArn=arn).get("Subscriptions", [])
        ]
        answer = self._account.client("ssm").describe_parameters(
            ParameterFilters=[{"Key": "Name", "Values": [f"/{name}/webhook"]}]
        )
        yield subscriptions(found, bool(answer["Parameters"]))


def topics(sns: Any, stack: str) -> list[str]:
    """The ARNs of a stack's topics; CloudFormation adds to the name what makes it unique."""
    arns = [str(one["TopicArn"]) for page in sns.get_paginator("list_topics").paginate() for one in page["Topics"]]
    return [one for one in arns if one.rpartition(":")[2] == stack or f":{stack}-Topic" in one]


def _tag(machine: dict[str, Any], key: str) -> str:
    return next((str(one["Value"]) for one in machine.get("Tags", []) if one["Key"] == key), "")
