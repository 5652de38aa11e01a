"""The dialler port: what it needs (TLS, WebSockets, speech) is imported when it is first used."""

from __future__ import annotations

from chalicelib.domain.probes import EdgeAnswer, Heard


class NetDialler:
    """`chalicelib.ports.Dialler`."""

    def ask_edge(self, edge_url: str, ca_pem: str | None) -> EdgeAnswer:
        from chalicelib.net import https

        return https.ask_edge(edge_url, ca_pem)

    def speak(self, ws_url: str, ticket: str, ca_pem: str | None, timeout_s: float) -> Heard:
        from chalicelib.net import canary

        return canary.speak(ws_url, ticket, ca_pem, timeout_s)

    @property
    def said(self) -> str:
        from chalicelib.net import canary

        return canary.SAID
