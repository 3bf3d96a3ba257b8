"""Keys that are made for a single run, so that nobody else can join its encrypted connections."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from distributed.security import Security

_NAME = "wsipsm-run"
# The certificate is valid from far in the past to far in the future, since machines' clocks differ and may be set
# during a run. The keys are discarded at the end of the run anyway.
_FROM = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_UNTIL = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)


def make_own_keys() -> Security:
    """Make a key and a self-signed certificate; a peer that does not hold both is refused in the handshake.

    Both are kept in memory and reach the processes of a local cluster through a pipe that only these have open. Each
    process writes the key to disk once, since OpenSSL reads files: into a folder that its user alone can enter and
    that is removed at once.

    Returns
    -------
    Dask's settings of encrypted connections, for client, scheduler and workers alike.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return Security(  # type: ignore[no-untyped-call]
        require_encryption=True,
        tls_ca_file=public,
        tls_client_key=secret,
        tls_client_cert=public,
        tls_scheduler_key=secret,
        tls_scheduler_cert=public,
        tls_worker_key=secret,
        tls_worker_cert=public,
    )
