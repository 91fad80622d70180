"""What the processes of a local stack are told: the edge its settings, everybody else no secret of the edge."""

from pathlib import Path

import pytest

from contracts.allocator import HUGE_PAGES
from detections.local import LocalStack
from detections.local_broker import BrokerUrls, urls_of
from detections.stack_lock import StackError

AMQP = BrokerUrls(edge="amqp://edge@b/", consumer="amqp://consumer@b/", operator="amqp://operator@b/")
SECRETS = {"EDGE_JWT_KEY": "x" * 32, "EDGE_SEAL_KEYS": "y"}


def environ_of(stack: LocalStack, name: str, module: str) -> dict[str, str]:
    return dict(stack._program(name, module, AMQP).environ)


def test_the_edge_gets_its_settings_and_a_consumer_none_of_them(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, environ=SECRETS | {"CONSUMER_WORKERS": "1"}, port=1)
    edge, consumer = environ_of(stack, "edge", "edge"), environ_of(stack, "consumer-1", "consumers")

    assert SECRETS.items() <= edge.items()
    assert (edge["EDGE_HOST"], edge["EDGE_PORT"]) == ("127.0.0.1", "1")
    assert consumer["CONSUMER_WORKERS"] == "1"
    assert not [name for name in consumer if name.startswith("EDGE_")]


def test_a_consumer_asks_for_huge_pages_unless_its_operator_says_otherwise(tmp_path: Path) -> None:
    own = LocalStack(tmp_path, environ={"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"})

    assert environ_of(LocalStack(tmp_path, environ={}), "consumer-1", "consumers").items() >= HUGE_PAGES.items()
    assert environ_of(own, "consumer-1", "consumers")["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=0"


def test_each_part_is_a_user_of_its_own_on_the_broker(tmp_path: Path) -> None:
    both = {"CONSUMER_AMQP_URL": "amqp://consumer@b/", "EDGE_AMQP_URL": "amqp://edge@b/"}
    stack = LocalStack(tmp_path, environ=both, port=1)
    edge, consumer = environ_of(stack, "edge", "edge"), environ_of(stack, "consumer-1", "consumers")

    assert (edge["AMQP_URL"], consumer["AMQP_URL"]) == (AMQP.edge, AMQP.consumer)
    assert not both.keys() & (edge.keys() | consumer.keys())


def test_a_broker_of_somebody_else_may_have_one_user_or_several() -> None:
    one = urls_of({"AMQP_URL": "amqp://b/"})
    several = {"AMQP_URL": AMQP.operator, "EDGE_AMQP_URL": AMQP.edge, "CONSUMER_AMQP_URL": AMQP.consumer}

    assert one == BrokerUrls(edge="amqp://b/", consumer="amqp://b/", operator="amqp://b/")
    assert urls_of(several) == AMQP


def test_the_double_of_the_service_gets_none_of_them_either(tmp_path: Path) -> None:
    program = LocalStack(tmp_path, environ=SECRETS)._annotations_double(1)

    assert not [name for name in program.environ if name.startswith("EDGE_")]


@pytest.mark.parametrize(("host", "url"), [("::1", "http://[::1]:8000"), ("::", "http://127.0.0.1:8000")])
def test_the_edge_may_listen_where_ipv6_is(tmp_path: Path, host: str, url: str) -> None:
    assert LocalStack(tmp_path, port=8000, environ={"EDGE_HOST": host}).url == url


def test_an_address_that_is_not_ours_is_no_port_in_use(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, port=8000, environ={"EDGE_HOST": "192.0.2.1"})  # of documentation, RFC 5737

    with pytest.raises(StackError, match=r"port 8000 of 192\.0\.2\.1: Cannot assign requested address"):
        stack.start()
