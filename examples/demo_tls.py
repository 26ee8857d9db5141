"""TLS for the demo: version 1.3 and nothing older, with a certificate of yours or one made for the occasion."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LIFE = dt.timedelta(days=2)
"""How long a self-made certificate is good for: as long as somebody may try things out."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return what a server needs: TLS 1.3 alone.

    Args:
        certificate: In PEM, with whatever stands between it and its root.
        key: In PEM; may be the same file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    return context


def make_certificate(folder: Path) -> tuple[Path, Path, str]:
    """Make a certificate that nobody trusts, for ``localhost`` and the loopback addresses.

    Args:
        folder: Where it is put; the key can be read by its owner alone.

    Returns:
        Where it is, where its key is, and its fingerprint, by which it can be recognised.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "prefsync demo")])
    addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *addresses]), critical=False)
        # Whoever trusts it trusts this server, and no certificate that is signed with its key.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    at = folder / "certificate.pem"
    at.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key_at = folder / "key.pem"
    key_at.touch(0o600, exist_ok=False)
    key_at.write_bytes(private)
    return at, key_at, certificate.fingerprint(hashes.SHA256()).hex(":").upper()
