"""Tokens are verified with the published keys alone."""

from __future__ import annotations

import jwt
import pytest

from shoal_lab.company.tokens import ALGORITHM, Signer, Verifier, new_key

SIGNER = Signer("key-1", new_key())


def test_a_signed_token_names_its_user() -> None:
    assert Verifier(SIGNER.jwks()).user(SIGNER.sign("user-0001")) == "user-0001"


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param("a.b.c", id="malformed"),
        pytest.param(Signer("key-1", new_key()).sign("user-0001"), id="another key of the same name"),
        pytest.param(Signer("key-2", new_key()).sign("user-0001"), id="an unknown key"),
        pytest.param(
            jwt.encode({"sub": "x"}, "s" * 32, algorithm="HS256", headers={"kid": "key-1"}), id="another algorithm"
        ),
        pytest.param(
            jwt.encode({"sub": "x", "exp": 1}, SIGNER._key, algorithm=ALGORITHM, headers={"kid": "key-1"}), id="expired"
        ),
        pytest.param(SIGNER.sign("user-0001")[:-4] + "AAAA", id="signature changed"),
    ],
)
def test_any_other_token_names_nobody(token: str) -> None:
    assert Verifier(SIGNER.jwks()).user(token) is None


def test_the_key_set_holds_no_private_part() -> None:
    assert {"x", "kid"} <= set(SIGNER.jwks()["keys"][0])
    assert "d" not in SIGNER.jwks()["keys"][0]
