"""Tokens for tests: signed as an identity provider would, or as an attacker would."""

import base64
import hashlib
import hmac
import time
from functools import cache
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

SHARED_KEY = "a key that is only for tests, and long"


def claims(user_id: str | None = "ada", **changes: Any) -> dict[str, Any]:
    """A payload that is valid for an hour; a change to None removes a claim."""
    said = {"sub": user_id, "exp": time.time() + 3600} | changes
    return {name: value for name, value in said.items() if value is not None}


def token(user_id: str | None = "ada", *, key: str = SHARED_KEY, **changes: Any) -> str:
    """A token of a user, signed with the shared key."""
    return jwt.encode(claims(user_id, **changes), key, algorithm="HS256")


def bearer(user_id: str | None = "ada", **changes: Any) -> dict[str, str]:
    """The header with such a token."""
    return {"Authorization": f"Bearer {token(user_id, **changes)}"}


def assembled(header: dict[str, Any] | bytes, payload: dict[str, Any] | bytes, *, key: bytes | None = None) -> str:
    """A token put together by hand: its parts say what they want; without a key its signature is empty."""
    parts = [part if isinstance(part, bytes) else msgspec.json.encode(part) for part in (header, payload)]
    signed = b".".join(_encoded(part) for part in parts)
    signature = b"" if key is None else hmac.new(key, signed, hashlib.sha256).digest()
    return (signed + b"." + _encoded(signature)).decode()


def rsa_key(name: str = "first", *, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The RSA key of this name, made once."""
    return _rsa_key(name, bits)


def p256_key(name: str = "first") -> ec.EllipticCurvePrivateKey:
    """The P-256 key of this name, made once."""
    return _p256_key(name)


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    """What an attacker knows of the key, in the form that libraries are given."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, kid: str, **changes: Any) -> dict[str, Any]:
    """The public half as an entry of a key set."""
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid} | changes


def key_set(*entries: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"keys": entries})


def _encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


@cache
def _rsa_key(_name: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def _p256_key(_name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
