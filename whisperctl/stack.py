"""Which stack a command talks to, and with what right.

Order: --url, --stage, then WHISPERCTL_URL, WHISPERCTL_STAGE (with WHISPERCTL_TOKEN and WHISPERCTL_CA), then
`<state-dir>/stack.json` of a running `whisperctl local`. A stage's address is asked of CloudFormation. What
stack.json holds (tokens, the certificate authority) is used for that stack's own address only: a token never goes to
an address it was not made for.
"""

from __future__ import annotations

import dataclasses
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import click

from whisperctl.errors import UsageError

DEFAULT_STATE_DIR = Path(".local")
STAGE = "whisperctl.stage"
"""Where click's context keeps --stage."""
LOCAL = "local"
"""The stage that is no stage in AWS: what `whisperctl local` runs."""
ROLES = ("viewer", "speaker", "operator")
"""Each role may do what those before it may."""


@dataclass(frozen=True, slots=True)
class StackInfo:
    """The address of a stack and the rights to use it. Tokens stay out of `repr`, and so out of logs."""

    edge_url: str
    """`https://host[:port]`, no trailing slash; the page is there, the API under `/api`."""
    api_url: str
    """Base of the API; paths below it are `/v1/…`."""
    ca_cert: str | None = None
    """PEM file of the certificate authority to trust; None: the system's."""
    token: str | None = field(default=None, repr=False)
    """A token the user gave; it is used for every role."""
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Tokens by role, from stack.json."""
    aws_endpoint: str | None = None
    """Where AWS is played by a stand-in; None: the real AWS."""
    state_dir: Path | None = None
    """Directory of the stack.json that was used."""
    stack_name: str = "local"
    """Names the table, the tags and the documents of a local stack."""
    bucket: str | None = None
    """The bucket of a local stack's releases."""
    stage: str = ""
    """The stage in AWS that was named; empty for a local stack, and where an address was given."""

    def token_for(self, role: str) -> str:
        """The least powerful token that may act as `role`; UsageError when there is none."""
        if self.token:
            return self.token
        for name in ROLES[ROLES.index(role) :]:
            if self.tokens.get(name):
                return self.tokens[name]
        raise UsageError(f"no token for {self.edge_url}: set WHISPERCTL_TOKEN to a {role}'s token")

    def tls(self) -> ssl.SSLContext | None:
        """A verifying context for https and wss, None for a plain http address; UsageError on a bad CA file."""
        if urlsplit(self.edge_url).scheme != "https":
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_cert)
        except FileNotFoundError:
            raise UsageError(f"the certificate authority's file {self.ca_cert} does not exist") from None
        except (ssl.SSLError, OSError) as error:
            raise UsageError(f"{self.ca_cert} is not a certificate authority in PEM form: {error}") from None


def find_stack(
    env: Mapping[str, str],
    *,
    url: str | None = None,
    token: str | None = None,
    state_dir: Path | None = None,
) -> StackInfo:
    """Return the stack meant by flags, environment and stack.json; UsageError says what is missing or unfit."""
    named, token = chosen_stage(env), token or env.get("WHISPERCTL_TOKEN") or None
    stage = named[0]
    wanted = url or (None if named[1] else env.get("WHISPERCTL_URL")) or None
    if token is not None and not _visible_ascii(token):
        raise UsageError("the token is not one: it may hold visible ASCII characters only, no space, no line break")
    ca_cert = env.get("WHISPERCTL_CA") or None
    if stage and stage != LOCAL:
        return _in_aws(stage, wanted, token, ca_cert)
    local = read_stack(state_dir or DEFAULT_STATE_DIR, required=wanted is None)
    edge_url = None if wanted is None else _address(wanted)
    if local is not None and edge_url in (None, local.edge_url):
        return dataclasses.replace(local, ca_cert=ca_cert or local.ca_cert, token=token)
    assert edge_url is not None
    return StackInfo(edge_url, f"{edge_url}/api", ca_cert, token)


def chosen_stage(env: Mapping[str, str]) -> tuple[str, bool]:
    """The stage that is meant, empty for none, and whether --stage said so."""
    context = click.get_current_context(silent=True)
    given = context.meta.get(STAGE) if context is not None else None
    stage = str(given or env.get("WHISPERCTL_STAGE") or "")
    if stage and not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", stage):
        raise UsageError(f"{stage!r} is not the name of a stage, such as prod")
    return stage, bool(given)


def stack_name_of(stage: str) -> str:
    """What a stage is called in CloudFormation, in tags and in the names of its documents."""
    return f"whisperlive-{stage}"


def _in_aws(stage: str, wanted: str | None, token: str | None, ca_cert: str | None) -> StackInfo:
    """A stage's stack: at the address that was given, else at that of its outputs."""
    name, bucket = stack_name_of(stage), None
    if wanted is None:
        from whisperctl.aws import outputs

        said = outputs(name)
        wanted, bucket = said.get("EdgeUrl"), said.get("BucketName")
        if not wanted:
            raise UsageError(f"the stack {name} names no EdgeUrl in its outputs: give --url")
    edge_url = _address(wanted)
    return StackInfo(edge_url, f"{edge_url}/api", ca_cert, token, stack_name=name, bucket=bucket, stage=stage)


def read_stack(state_dir: Path, *, required: bool = True) -> StackInfo | None:
    """Read `<state_dir>/stack.json`; None when it is absent and not required. UsageError otherwise."""
    path = state_dir / "stack.json"
    try:
        about = json.loads(path.read_text())
        tokens = {str(role): str(one) for role, one in dict(about.get("tokens") or {}).items()}
        if not all(map(_visible_ascii, tokens.values())):
            raise ValueError("a token holds more than visible ASCII characters")
        return StackInfo(
            edge_url=str(about["edge_url"]).rstrip("/"),
            api_url=str(about["api_url"]).rstrip("/"),
            ca_cert=about.get("ca_cert"),
            tokens=tokens,
            aws_endpoint=about.get("aws_endpoint"),
            state_dir=state_dir,
            stack_name=str(about.get("stack_name") or "local"),
            bucket=about.get("bucket"),
        )
    except FileNotFoundError:
        if required:
            raise UsageError(
                f"no stack is known: give --url and WHISPERCTL_TOKEN, or start one with `whisperctl local` "
                f"(there is no {path})"
            ) from None
        return None
    except OSError as error:
        if required:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from None
        return None
    except (ValueError, KeyError, TypeError) as error:
        if required:
            raise UsageError(f"{path} is not what `whisperctl local` writes: {error!r}") from None
        return None


def _visible_ascii(token: str) -> bool:
    """Whether it can travel in a header: U+0021 to U+007E only."""
    return all("!" <= character <= "~" for character in token)


def _address(url: str) -> str:
    """Normalise what a person types: no fragment, no trailing slash, https unless http is written."""
    text = url if "://" in url else f"https://{url}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise UsageError(f"{url!r} is not an address like https://speech.example.org") from None
    scheme = {"wss": "https", "ws": "http"}.get(parts.scheme, parts.scheme)
    if scheme not in ("https", "http") or not parts.hostname:
        raise UsageError(f"{url!r} is not an address like https://speech.example.org")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{scheme}://{host}" + (f":{port}" if port else "")
