"""Which stack a command talks to, and with what right.

Order: flags, then WHISPERCTL_URL, WHISPERCTL_TOKEN and WHISPERCTL_CA, then `<state-dir>/stack.json` of a
running `whisperctl local`. What stack.json holds (tokens, the certificate authority) is used for that stack's
own address only: a token never goes to an address it was not made for.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from whisperctl.errors import UsageError

DEFAULT_STATE_DIR = Path(".local")
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
    wanted = url or env.get("WHISPERCTL_URL") or None
    token = token or env.get("WHISPERCTL_TOKEN") or None
    if token is not None and not _visible_ascii(token):
        raise UsageError("the token is not one: it may hold visible ASCII characters only, no space, no line break")
    ca_cert = env.get("WHISPERCTL_CA") or None
    local = read_stack(state_dir or DEFAULT_STATE_DIR, required=wanted is None)
    if wanted is None:
        assert local is not None
        return StackInfo(
            local.edge_url,
            local.api_url,
            ca_cert or local.ca_cert,
            token,
            local.tokens,
            local.aws_endpoint,
            local.state_dir,
            local.stack_name,
            local.bucket,
        )
    edge_url = _address(wanted)
    if local is not None and local.edge_url == edge_url:
        return StackInfo(
            edge_url,
            local.api_url,
            ca_cert or local.ca_cert,
            token,
            local.tokens,
            local.aws_endpoint,
            local.state_dir,
            local.stack_name,
            local.bucket,
        )
    return StackInfo(edge_url, f"{edge_url}/api", ca_cert, token)


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
