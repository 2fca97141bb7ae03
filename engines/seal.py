"""What makes an altered model.json refuse itself, and who vouches for it.

The document carries its own digest: sha256 over its canonical form (JSON, keys sorted, no spaces) without the member
``digest``. Any other member that changes, unknown ones and signatures included, no longer agrees with it; spaces and
the order of keys do not matter. That finds damage and careless edits. Whoever edits on purpose can compute the digest
anew: against them are the signatures, ed25519 (RFC 8032) over the document without ``digest`` and ``signatures``, made
with `pamdi engines sign` and checked by daemons that have ``trusted_keys``.
"""

import base64
import binascii
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Dict, Sequence

from pamdi.core.errors import EngineError

PURPOSE = b"pamdi model.json\n"  # so that a signature can mean nothing else
INSTALL = "cryptography is not installed: pip install 'pamdi[signatures]'"


def digest_of(document: Dict[str, Any], *less: str) -> str:
    kept = {key: value for key, value in document.items() if key not in less}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sealed(document: Dict[str, Any]) -> Dict[str, Any]:
    """The document with its digest."""
    return {**document, "digest": digest_of(document, "digest")}


def check_seal(document: Dict[str, Any]) -> str:
    """What is wrong with the document's digest, or nothing."""
    said = document.get("digest")
    if not said:
        return "it carries no digest of itself, as those of older versions"
    found = digest_of(document, "digest")
    return "" if found == said else f"altered: its digest is {found[:12]}, it says {str(said)[:12]!r}"


def signed(document: Dict[str, Any], key: Any) -> Dict[str, Any]:
    """The document with ``key``'s signature (an Ed25519PrivateKey) in place of an earlier one of the same key."""
    public = public_text(key)
    mine = {"key": public, "signature": base64.b64encode(key.sign(_message(document))).decode()}
    others = [entry for entry in document.get("signatures", ()) if entry["key"] != public]
    return sealed({**document, "signatures": [*others, mine]})


def check_trust(document: Dict[str, Any], trusted_keys: Sequence[str], where: str) -> None:
    """Raises EngineError unless one of ``trusted_keys`` signed the document as it is."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise EngineError(f"{where}: trusted_keys are configured and {INSTALL}") from error
    for entry in document.get("signatures", ()):
        if entry.get("key") in trusted_keys:
            try:
                key = Ed25519PublicKey.from_public_bytes(base64.b64decode(entry["key"]))
                key.verify(base64.b64decode(entry.get("signature", "")), _message(document))
                return
            except (InvalidSignature, ValueError):
                continue
    raise EngineError(f"{where}: signed by none of trusted_keys: sign it with `pamdi engines sign`, or mend the keys")


def private_key(path: Path) -> Any:
    """The ed25519 key in ``path`` (PEM, no password), made there where there is none, readable by its owner alone.
    Raises EngineError."""
    try:
        from cryptography.hazmat.primitives import serialization as forms
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise EngineError(INSTALL) from error
    try:
        if not path.exists():
            pem = Ed25519PrivateKey.generate().private_bytes(
                forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption()
            )
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(pem)
        key = forms.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise EngineError(f"{path}: not a private key in PEM ({error}): name another file, it will be made") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise EngineError(f"{path}: not an ed25519 key: name another file, it will be made")
    return key


def is_key(text: str) -> bool:
    """Whether ``text`` can be a public key: 32 bytes in base 64."""
    try:
        return len(base64.b64decode(text, validate=True)) == 32
    except (binascii.Error, ValueError):
        return False


def public_text(key: Any) -> str:
    """A private key's public half, as ``trusted_keys`` has it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def _message(document: Dict[str, Any]) -> bytes:
    return PURPOSE + digest_of(document, "digest", "signatures").encode()
