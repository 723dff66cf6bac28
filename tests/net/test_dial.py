"""The dialer (dial_client.c) against OpenSSL's server: suites, certificates, and each failure with its words."""
import contextlib
import os
import platform
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CLIENT = HERE / "../../out" / os.environ.get("NB_TARGET", platform.machine()) / "test/net/dial_client"
CERTS = HERE / "../vectors/tls"
CA = CERTS / "ca.pem"


def dial(host, port, ca=CA):
    done = subprocess.run([CLIENT, host, str(port)] + [ca] * bool(ca), capture_output=True, text=True, check=True, timeout=20)
    line, took = done.stdout.strip().split("\n")
    return line, int(took.split()[1])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def openssl(cert, key, *args):
    port = free_port()
    # -cert takes the first certificate of the file, -cert_chain wants the others alone
    mark = "-----BEGIN CERTIFICATE-----"
    others = (CERTS / cert).read_text().split(mark)[2:]
    chain = tempfile.NamedTemporaryFile("w", suffix=".pem")
    chain.write("".join(mark + other for other in others))
    chain.flush()
    process = subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", CERTS / cert, "-key",
                                CERTS / key, "-quiet", *args] + ["-cert_chain", chain.name] * bool(others),
                               stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()
        chain.close()


@pytest.mark.parametrize("cert,key,suites", [
    ("ec.pem", "ec.key", "ECDHE-ECDSA-CHACHA20-POLY1305"), ("ec.pem", "ec.key", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ("ec.pem", "ec.key", "ECDHE-ECDSA-AES256-GCM-SHA384"), ("rsa.pem", "rsa.key", "ECDHE-RSA-CHACHA20-POLY1305"),
    ("rsa.pem", "rsa.key", "ECDHE-RSA-AES128-GCM-SHA256"), ("rsa.pem", "rsa.key", "ECDHE-RSA-AES256-GCM-SHA384")])
def test_suites(cert, key, suites):
    with openssl(cert, key, "-alpn", "h2", "-cipher", suites) as port:
        assert dial("localhost", port)[0] == "open h2"


@pytest.mark.parametrize("args,words", [
    (["-alpn", "h2", "-tls1_3"], "the server requires TLS 1.3"),
    (["-alpn", "h2", "-cipher", "ECDHE-ECDSA-AES128-SHA"], "refused the handshake"),
    ([], "does not offer h2 over TLS"),
    (["-alpn", "http/1.1"], "does not speak HTTP/2"),
])
def test_refusals(args, words):
    with openssl("ec.pem", "ec.key", *args) as port:
        assert words in dial("localhost", port)[0]


@pytest.mark.parametrize("cert,ca,host,words", [
    ("expired.pem", CA, "localhost", "expired on 2026-01-01"),
    ("future.pem", CA, "localhost", "is not valid before 2090-01-01"),
    ("ec.pem", CA, "127.0.0.1", "addresses in certificates are not matched"),
    ("ec.pem", CERTS / "self.pem", "localhost", "--ca-file"),
    ("self.pem", CA, "localhost", "--ca-file"),
])
def test_certificates(cert, ca, host, words):
    with openssl(cert, "ec.key", "-alpn", "h2") as port:
        assert words in dial(host, port, ca)[0]


def test_names():
    line, took = dial("name.invalid", 443)
    assert line.startswith("cannot look up name.invalid: ") and took < 4500
    line, took = dial("localhost", free_port(), None)
    assert line.startswith("cannot connect to localhost (127.0.0.1:") and "refused" in line and took < 500


def test_silent_server():
    with socket.create_server(("127.0.0.1", 0)) as s:
        line, took = dial("localhost", s.getsockname()[1])
        assert "no answer during the TLS handshake" in line and 3900 < took < 5500
