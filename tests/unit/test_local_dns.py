"""The DNS server of a hosts file."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from dnslib import QTYPE, RCODE, DNSError, DNSRecord

from whisperctl.local.dns import HostsFileDns, addresses, answer

HOSTS = """\
127.0.0.1 localhost
# 10.9.9.9 gpu.internal
10.0.0.5 other gpu.internal # first
10.0.0.6 gpu.internal
fe80::1 gpu.internal
"""


def test_the_addresses_of_a_name() -> None:
    assert addresses(HOSTS, "gpu.internal") == ["10.0.0.5", "10.0.0.6"]
    assert addresses(HOSTS, "internal") == []


def test_an_answer_and_the_lack_of_one() -> None:
    reply = DNSRecord.parse(answer(DNSRecord.question("GPU.internal").pack(), HOSTS))
    assert [str(record.rdata) for record in reply.rr] == ["10.0.0.5", "10.0.0.6"]
    assert {record.ttl for record in reply.rr} == {0}
    none = DNSRecord.parse(answer(DNSRecord.question("nobody.internal").pack(), HOSTS))
    assert none.header.rcode == RCODE.NXDOMAIN
    six = DNSRecord.parse(answer(DNSRecord.question("gpu.internal", "AAAA").pack(), HOSTS))
    assert (six.header.rcode, six.rr) == (RCODE.NOERROR, [])
    with pytest.raises(DNSError):
        answer(b"rubbish", HOSTS)


def test_the_server_reads_the_file_anew_and_survives_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    server = HostsFileDns(lambda: path)
    host, port = server.address.split(":")

    def ask() -> list[str]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(2)
            client.sendto(b"\x00", (host, int(port)))
            client.sendto(DNSRecord.question("gpu.internal").pack(), (host, int(port)))
            reply = DNSRecord.parse(client.recv(4096))
            return [str(record.rdata) for record in reply.rr if record.rtype == QTYPE.A]

    assert ask() == []
    path.write_text("10.0.0.5 gpu.internal\n")
    assert ask() == ["10.0.0.5"]
    server.close()
