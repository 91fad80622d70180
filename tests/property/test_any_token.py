"""Whatever is sent as a token, the answer is a failure that says so, and never a crash or somebody let in."""

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.failures import Failure, FailureCode
from edge.jwks import read_keys
from edge.jwts import Expected, SharedKey, Verifier, read_claims
from tests.signing import SHARED_KEY, assembled

JSON: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["alg", "kid", "typ", "crit", "b64", "jwk", "sub", "exp", "nbf", "iat", "aud", "iss", "scope", "scp"]
)
PART = st.dictionaries(NAMES, JSON | st.sampled_from(["HS256", "none", "RS256"]), max_size=5)
GARBAGE = st.text(alphabet="AZaz09-_.=+/", max_size=80) | st.binary(max_size=60).map(
    lambda content: base64.urlsafe_b64encode(content).decode() + "..e30"
)


@settings(max_examples=50)
@given(token=GARBAGE | st.builds(assembled, PART, PART) | st.builds(assembled, st.binary(max_size=40), PART))
async def test_nothing_unsigned_is_believed(token: str) -> None:
    with pytest.raises(Failure) as caught:
        await Verifier(SharedKey(SHARED_KEY), Expected()).claims_of(token)
    assert caught.value.code is FailureCode.UNAUTHENTICATED
    read_claims(token)


@settings(max_examples=50)
@given(header=PART, payload=PART)
async def test_whatever_is_signed_names_a_usable_user_or_fails_by_name(
    header: dict[str, Any], payload: dict[str, Any]
) -> None:
    token = assembled(header | {"alg": "HS256"}, payload | {"exp": 4e9}, key=SHARED_KEY.encode())
    try:
        user_id = (await Verifier(SharedKey(SHARED_KEY), Expected(scope=None)).claims_of(token)).user_id
    except Failure as failure:
        assert failure.code in {FailureCode.UNAUTHENTICATED, FailureCode.FORBIDDEN}  # noqa: PT017 - either may come
    else:
        assert 1 <= len(user_id) <= 256
        assert user_id.isprintable()


@settings(max_examples=50)
@given(
    entries=JSON
    | st.lists(st.dictionaries(st.sampled_from(["kty", "kid", "n", "e", "x", "y", "crv", "k", "use"]), JSON))
)
def test_any_key_set_is_read_or_refused(entries: Any) -> None:
    with pytest.raises(ValueError, match=r"(?i)key"):
        read_keys(msgspec.json.encode({"keys": entries}))
