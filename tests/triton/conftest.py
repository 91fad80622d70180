"""One Triton server for the whole session; a test that disturbs it puts it right again."""

from collections.abc import Iterator

import pytest

from tests.triton_server import TritonMissingError, TritonServer

COLOURS = """
backend: "python"
max_batch_size: 4
input [ { name: "images" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] } ]
output [ { name: "output" data_type: TYPE_FP32 dims: [ 1, 6 ] } ]
parameters [ { key: "end2end" value: { string_value: "True" } } ]
"""
FIXED = """
backend: "python"
input [ { name: "images" data_type: TYPE_FP32 dims: [ 1, 3, 64, 64 ] } ]
output [ { name: "output" data_type: TYPE_FP32 dims: [ 1, 1, 6 ] } ]
parameters [ { key: "end2end" value: { string_value: "True" } } ]
"""
ALONE = """
backend: "python"
input [ { name: "images" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] } ]
output [ { name: "output" data_type: TYPE_FP32 dims: [ 1, 6 ] } ]
parameters [ { key: "end2end" value: { string_value: "True" } } ]
"""
CLASSIFIER = """
backend: "python"
max_batch_size: 1
input [ { name: "images" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] } ]
output [ { name: "scores" data_type: TYPE_FP32 dims: [ 10 ] } ]
"""
MODELS = {"colours": COLOURS, "gathered": COLOURS, "fixed": FIXED, "alone": ALONE, "classifier": CLASSIFIER}


@pytest.fixture(scope="session")
def triton_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    try:
        server = TritonServer(tmp_path_factory.mktemp("triton"))
    except TritonMissingError as error:
        pytest.skip(str(error))
    server.add_shipped()
    for name, config in MODELS.items():
        server.add_colours(name, config)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def triton(triton_of_the_session: TritonServer) -> TritonServer:
    """The server, running."""
    if not triton_of_the_session.is_running:
        triton_of_the_session.start()
    return triton_of_the_session
