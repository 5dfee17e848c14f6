# SPDX-License-Identifier: Apache-2.0
"""TLS as a client of DNS servers (RFC 7858): the files of certificates and keys, read and checked."""

import ssl
from pathlib import Path


class CertificateFilesError(OSError):
    """Files that can't be used, with a text for those who wrote their names down."""


def client_context(ca: Path | None, own: tuple[Path, Path] | None) -> ssl.SSLContext:
    """What connections to a server are made with: TLS 1.2 at least, certificate and name verified.

    ca: file with the authorities, None: the system's. own: our certificate and its key, where the server
    wants them. Raises CertificateFilesError.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
        if own is not None:
            context.load_cert_chain(*own, password=_no_password)
    except ssl.SSLError as error:
        reason = (error.reason or "no certificate").lower().replace("_", " ")
        raise CertificateFilesError(f"{reason!r}") from None
    except OSError as error:
        raise CertificateFilesError(f"{error.strerror or error}") from None
    context.set_alpn_protocols(["dot"])
    return context


def _no_password() -> str:
    # Without it OpenSSL would ask on the terminal.
    raise CertificateFilesError("a key with a password")
