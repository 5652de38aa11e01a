"""TLS for clients that read and write in two threads, as the websockets library's synchronous ones do."""

from __future__ import annotations

import ssl


def threaded_tls(ca_cert: str | None) -> ssl.SSLContext:
    """Trusts `ca_cert`, a PEM file (None: the system's authorities), and speaks TLS 1.2.

    OpenSSL allows no two threads in one connection. Data that flows both ways gets by, but TLS 1.3's session ticket,
    which comes from the server after the handshake, may meet the client's first write: about one connection in a
    hundred to a server on the same machine then waits in vain for its answer. TLS 1.2 sends nothing of itself.
    """
    context = ssl.create_default_context(cafile=ca_cert)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context
