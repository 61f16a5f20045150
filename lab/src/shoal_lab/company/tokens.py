"""Tokens: JWTs signed by auth with Ed25519, and the public keys they are verified with."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import OKPAlgorithm

ALGORITHM = "EdDSA"
LIFETIME = 3600.0


def new_key() -> str:
    """A fresh private key, as PEM."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class Signer:
    """Signs tokens with one private key, and publishes its public half."""

    def __init__(self, key_id: str, pem: str) -> None:
        key = load_pem_private_key(pem.encode(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError(f"signing key {key_id} must be Ed25519, got {type(key).__name__}")
        self._key = key
        self.key_id = key_id

    def sign(self, user: str) -> str:
        """A token for *user* that is good for an hour."""
        claims = {"sub": user, "exp": int(time.time() + LIFETIME)}
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": self.key_id})

    def jwks(self) -> dict[str, Any]:
        """The JSON Web Key Set others verify with (RFC 7517)."""
        public = OKPAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": self.key_id, "use": "sig", "alg": ALGORITHM}]}


class Verifier:
    """Verifies tokens against a key set, without asking anybody."""

    def __init__(self, jwks: Mapping[str, Any]) -> None:
        self._keys = {key.key_id: key.key for key in jwt.PyJWKSet.from_dict(dict(jwks)).keys}

    def user(self, token: str) -> str | None:
        """Whose token it is, or `None` for a token that is malformed, expired or not ours."""
        try:
            key = self._keys[jwt.get_unverified_header(token).get("kid", "")]
            claims = jwt.decode(token, key, algorithms=[ALGORITHM])
        except (jwt.InvalidTokenError, KeyError):
            return None
        return str(claims["sub"])
