"""Certificates of a cluster, and the file by which its programs and kubectl find and enter it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

#: Days for which certificates are valid.
_DAYS = "30"


def make(folder: Path, names: list[str], server: str) -> None:
    """Write the certificates of a cluster, its key for accounts of services, and ``kubeconfig`` of an administrator.

    ``names``: of the API server, as ``IP:...`` and ``DNS:...``. ``server``: its URL.
    """
    folder.mkdir(parents=True)
    _openssl(folder, "req", "-x509", "-nodes", *_key("ca"), "-subj", "/CN=ca", "-days", _DAYS, "-out", "ca.crt")
    _signed(folder, "server", "/CN=kube-apiserver", f"subjectAltName={','.join(names)}")
    _signed(folder, "admin", "/O=system:masters/CN=admin", "extendedKeyUsage=clientAuth")
    _openssl(folder, "genrsa", "-out", "accounts.key", "2048")
    where = {"server": server, "certificate-authority": str(folder / "ca.crt")}
    who = {"client-certificate": str(folder / "admin.crt"), "client-key": str(folder / "admin.key")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": where}],
        "users": [{"name": "admin", "user": who}],
        "contexts": [{"name": "here", "context": {"cluster": "cluster", "user": "admin"}}],
        "current-context": "here",
    }
    (folder / "kubeconfig").write_text(json.dumps(config), encoding="utf-8")


def _key(name: str) -> tuple[str, ...]:
    return ("-newkey", "rsa:2048", "-keyout", f"{name}.key")


def _signed(folder: Path, name: str, subject: str, extension: str) -> None:
    (folder / f"{name}.ext").write_text(extension, encoding="ascii")
    _openssl(folder, "req", "-nodes", *_key(name), "-subj", subject, "-out", f"{name}.csr")
    signer = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", _DAYS)
    _openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signer, "-extfile", f"{name}.ext", "-out", f"{name}.crt")


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=True)
