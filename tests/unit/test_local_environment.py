"""What the processes of a local stack are told: the edge its settings, everybody else no secret of the edge."""

from pathlib import Path

from detections.local import LocalStack

SECRETS = {"EDGE_JWT_KEY": "x" * 32, "EDGE_SEAL_KEYS": "y"}


def environ_of(stack: LocalStack, name: str, module: str) -> dict[str, str]:
    return dict(stack._program(name, module).environ)


def test_the_edge_gets_its_settings_and_a_consumer_none_of_them(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, environ=SECRETS | {"CONSUMER_WORKERS": "1"}, port=1)
    edge, consumer = environ_of(stack, "edge", "edge"), environ_of(stack, "consumer-1", "consumers")

    assert SECRETS.items() <= edge.items()
    assert (edge["EDGE_HOST"], edge["EDGE_PORT"]) == ("127.0.0.1", "1")
    assert consumer["CONSUMER_WORKERS"] == "1"
    assert not [name for name in consumer if name.startswith("EDGE_")]


def test_the_double_of_the_service_gets_none_of_them_either(tmp_path: Path) -> None:
    program = LocalStack(tmp_path, environ=SECRETS)._annotations_double(1)

    assert not [name for name in program.environ if name.startswith("EDGE_")]
