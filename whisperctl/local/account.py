"""What a deployment would have put into the account: environment, table, documents, tokens, machines."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from whisperctl.local import LocalOptions
from whisperctl.local.ec2 import Ec2
from whisperctl.local.roles import Plan

if TYPE_CHECKING:
    from chalicelib.aws.store import DynamoStore

REGION = "us-east-1"
ACCOUNT = "123456789012"
ROLES = ("operator", "speaker", "viewer")
GPU_TYPE = "g4dn.xlarge"
EDGE_TYPE = "t4g.nano"


@dataclass(frozen=True, slots=True)
class Account:
    """What was set up."""

    tokens: dict[str, str]
    gpu_instance_ids: tuple[str, ...]
    edge_instance_id: str


def put_environment(env: MutableMapping[str, str], options: LocalOptions, aws_endpoint: str, edge_url: str) -> None:
    """Lambda's environment: the app's settings, and credentials that are good for the stand-in only.

    A profile of the user's own is taken out, so that no call can ever reach a real account.
    """
    for name in [name for name in env if name.startswith("AWS_")]:
        del env[name]
    env.update(
        {
            "STACK_NAME": options.stack_name,
            "STAGE": "local",
            "TABLE_NAME": options.stack_name,
            "BUCKET_NAME": bucket_name(options),
            "EDGE_URL": edge_url,
            "IDLE_MINUTES": f"{options.idle_minutes:g}",
            "NIGHT": options.night,
            "GPU_TYPES": options.gpu_types,
            "TOPIC_ARN": f"arn:aws:sns:{REGION}:{ACCOUNT}:{options.stack_name}",
            "WEBHOOK_PARAMETER": f"/{options.stack_name}/webhook",
            "REQUIRE_TICKET": "true" if options.require_ticket else "false",
            # A busy machine without a GPU takes its time.
            "CANARY_SECONDS": "12",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": aws_endpoint,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "POWERTOOLS_SERVICE_NAME": options.stack_name,
            "POWERTOOLS_METRICS_NAMESPACE": "WhisperLiveEdge",
        }
    )


def bucket_name(options: LocalOptions) -> str:
    """The bucket of releases; bucket names have three characters at least."""
    return f"{options.stack_name}-releases"


def create_table_and_documents(options: LocalOptions) -> DynamoStore:
    """The table and the SSM documents, by the calls that would make them on AWS. Returns the store."""
    from chalicelib.aws.clients import Clients
    from chalicelib.aws.store import DynamoStore, table_definition
    from whisperctl.documents import documents

    clients = Clients(REGION)
    clients.s3.create_bucket(Bucket=bucket_name(options))
    clients.dynamodb.create_table(**table_definition(options.stack_name))
    clients.sns.create_topic(Name=options.stack_name)
    for name, content in documents(options.stack_name).items():
        clients.ssm.create_document(
            Name=name, Content=json.dumps(content), DocumentType="Command", DocumentFormat="JSON"
        )
    return DynamoStore(clients, options.stack_name)


def create_tokens(store: DynamoStore, now: float) -> dict[str, str]:
    """One token per role, for as long as the run lasts."""
    from chalicelib.services.tokens import issue

    return {role: issue(store, role, now=now, label=f"{role} of this run") for role in ROLES}


def create_machines(ec2: Ec2, options: LocalOptions) -> tuple[tuple[str, ...], str]:
    """The stopped GPUs, each in the next zone, and a running edge, as after a deployment. Returns their ids."""
    tags = {"whisperlive-edge:stack": options.stack_name}
    gpus = tuple(
        ec2.create(
            role="gpu",
            instance_type=GPU_TYPE,
            zone=ec2.zones[number % len(ec2.zones)],
            tags={**tags, "Name": f"{options.stack_name}-gpu" + (f"-{number + 1}" if number else "")},
            running=False,
        )
        for number in range(options.gpus)
    )
    edge = ec2.create(
        role="edge",
        instance_type=EDGE_TYPE,
        zone=ec2.zones[0],
        tags={**tags, "Name": f"{options.stack_name}-edge"},
        running=True,
    )
    return gpus, edge


def stack_file(
    plan: Plan, account: Account, *, options: LocalOptions, aws_endpoint: str, pid: int
) -> dict[str, object]:
    """What stack.json holds."""
    return {
        "edge_url": plan.edge_url,
        "api_url": plan.api_url,
        "aws_endpoint": aws_endpoint,
        "stack_name": options.stack_name,
        "bucket": bucket_name(options),
        "ca_cert": str(plan.ca_cert),
        "tokens": account.tokens,
        "gpu_instance_id": account.gpu_instance_ids[0],
        "gpu_instance_ids": list(account.gpu_instance_ids),
        "edge_instance_id": account.edge_instance_id,
        "pid": pid,
    }
