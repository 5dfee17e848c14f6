# SPDX-License-Identifier: Apache-2.0
"""Certificates of a test's own: an authority, and what it signs, made with openssl."""

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

SERVER_NAME = "dns.example.test"
_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-batch")


class Pair(NamedTuple):
    """Files with a certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """An authority in a directory. Needs the program openssl."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self.pair = self._files(name)
        self._openssl("req", "-x509", *_EC, "-subj", f"/CN={name}", *self._out(self.pair))

    @property
    def file(self) -> Path:
        """What those who trust it are given."""
        return self.pair.cert

    def sign(self, name: str = SERVER_NAME, address: str = "127.0.0.1") -> Pair:
        """A certificate for a name and an address."""
        pair = self._files(name)
        signer = ("-CA", str(self.pair.cert), "-CAkey", str(self.pair.key))
        alternatives = f"subjectAltName=DNS:{name},IP:{address}"
        constraints = ("-addext", alternatives, "-addext", "basicConstraints=CA:FALSE")
        self._openssl("req", "-x509", *_EC, "-subj", f"/CN={name}", *constraints, *signer, *self._out(pair))
        return pair

    def server_context(self, pair: Pair | None = None, clients: bool = False) -> ssl.SSLContext:
        """For a server with that certificate. clients: it wants theirs, signed here."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*(pair or self.sign()))
        context.set_alpn_protocols(["dot"])
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.file)
        return context

    def _files(self, name: str) -> Pair:
        return Pair(self._directory / f"{name}.pem", self._directory / f"{name}.key")

    @staticmethod
    def _out(pair: Pair) -> tuple[str, ...]:
        return "-out", str(pair.cert), "-keyout", str(pair.key)

    @staticmethod
    def _openssl(*words: str) -> None:
        done = subprocess.run(["openssl", *words], capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, done.stderr
