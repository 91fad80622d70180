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


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    try:
        server = TritonServer(tmp_path_factory.mktemp("triton"))
    except TritonMissingError as error:
        pytest.skip(str(error))
    server.add_shipped()
    for name, config in {"colours": COLOURS, "fixed": FIXED, "alone": ALONE, "classifier": CLASSIFIER}.items():
        server.add_colours(name, config)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def triton(running: TritonServer) -> TritonServer:
    """The server, running."""
    if not running.is_running:
        running.start()
    return running
