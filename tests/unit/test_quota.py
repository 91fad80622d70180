"""How much each client may have under way."""

import pytest

from contracts.failures import Failure, FailureCode
from edge.auth import Caller
from edge.quota import Quota


def test_each_client_has_its_own_count_and_gets_back_what_ends() -> None:
    quota = Quota(each_max=2, what="things")
    with quota.counted("a"), quota.counted("b"):
        quota.check("a")
        with quota.counted("a"):
            with pytest.raises(Failure, match="2 things") as refused:
                quota.check("a")
            quota.check("b")
        quota.check("a")
        with quota.counted("a"), pytest.raises(Failure):
            quota.check("a")
    assert refused.value.code is FailureCode.TOO_MANY_REQUESTS


def test_what_fails_is_no_longer_under_way() -> None:
    quota = Quota(each_max=1, what="things")
    with pytest.raises(RuntimeError), quota.counted("a"):
        raise RuntimeError
    quota.check("a")


def test_a_user_counts_wherever_they_come_from_and_a_claimed_name_does_not() -> None:
    known = [Caller(user_id="ada", sees_only="ada", address=address) for address in ("10.0.0.1", "10.0.0.2")]
    claimed = [Caller(user_id="ada", address=address) for address in ("10.0.0.1", "10.0.0.2")]

    assert known[0].client == known[1].client
    assert claimed[0].client != claimed[1].client
