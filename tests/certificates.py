"""Certificates made by OpenSSL's command line: not by the library that is tested."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import peers


@dataclass(frozen=True)
class Made:
    """A certificate with its key, both PEM."""

    certificate: Path
    key: Path

    def sha256(self) -> str:
        """Return the fingerprint as OpenSSL prints it."""
        told = _openssl("x509", "-in", str(self.certificate), "-noout", "-fingerprint", "-sha256")
        return told.strip().split("=")[1]

    def ends(self) -> float:
        """Return the end of its validity in seconds since 1970, by OpenSSL and date."""
        told = _openssl("x509", "-in", str(self.certificate), "-noout", "-enddate")
        text = told.strip().split("=")[1]
        return float(
            subprocess.run(
                ["/bin/date", "-d", text, "+%s"], capture_output=True, text=True, check=True
            ).stdout
        )


def authority(folder: Path, name: str) -> Made:
    """Make a CA."""
    made = Made(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-keyout", str(made.key), "-out", str(made.certificate), "-subj", f"/CN={name}",
        "-days", "30",
    )  # fmt: skip
    return made


def signed(ca: Made, name: str, names: str, days: int = 10, kind: str = "ec") -> Made:
    """Make a certificate of `ca`; `names` as OpenSSL's subjectAltName has them."""
    folder = ca.key.parent
    made = Made(folder / f"{name}.pem", folder / f"{name}.key")
    request, extra = folder / f"{name}.csr", folder / f"{name}.cnf"
    extra.write_text(f"subjectAltName={names}\n")
    new = {
        "ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
        "rsa": ["-newkey", "rsa:2048"],
    }[kind]
    _openssl(
        "req",
        *new,
        "-nodes",
        "-keyout",
        str(made.key),
        "-out",
        str(request),
        "-subj",
        f"/CN={name}",
    )
    _openssl(
        "x509", "-req", "-in", str(request), "-CA", str(ca.certificate), "-CAkey", str(ca.key),
        "-CAcreateserial", "-days", str(days), "-extfile", str(extra),
        "-out", str(made.certificate),
    )  # fmt: skip
    return made


def handshake(port: int, *options: str, timeout_s: float = 10) -> str:
    """Return what ``openssl s_client`` says of a connection that is closed at once."""
    command = [peers.need("/usr/bin/openssl"), "s_client", "-connect", f"127.0.0.1:{port}"]
    done = subprocess.run(
        [*command, *options], input="", capture_output=True, text=True, timeout=timeout_s,
        check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def _openssl(*arguments: str) -> str:
    return subprocess.run(
        [peers.need("/usr/bin/openssl"), *arguments], capture_output=True, text=True, check=True
    ).stdout
