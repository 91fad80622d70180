"""The runtime of a server, against a real Triton: the same boxes, the server's words, and what happens when it is away."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from detections.street import Street
from engine.batching import Workers
from engine.detector import Detector
from engine.kserve import Away, Deadlines
from engine.loading import load_detector
from engine.models import describe
from engine.opening import open_runtime
from engine.picture import Crop
from engine.runtimes.onnx import OnnxRuntime
from engine.runtimes.triton import TritonRuntime
from engine.sources import RemoteModel
from tests.conftest import REPOSITORY
from tests.fault.proxy import Proxy, proxy_beside
from tests.pictures import ArrayPicture
from tests.processes import wait_until
from tests.tiny_models import write_colour_model
from tests.triton_server import TritonServer

PROTOCOLS = ("grpc", "http")
OPTIONS = DetectionOptions(probability_threshold=0.5)
BATCH = np.random.default_rng(5).random((6, 3, 64, 64)).astype(np.float32)
QUICK = Deadlines(connect_s=1.0, ask_s=1.0, infer_s=1.0)


@pytest.fixture(scope="module")
def street() -> ArrayPicture:
    return ArrayPicture(np.ascontiguousarray(Street().picture(0)[..., ::-1]))


@pytest.fixture(scope="module")
def local() -> Detector:
    return load_detector(REPOSITORY / "models" / "aerial-vehicle.onnx")


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_server_gives_the_boxes_of_the_local_model(
    triton: TritonServer, protocol: str, street: ArrayPicture, local: Detector
) -> None:
    remote = load_detector(triton.model("aerial-vehicle", protocol))

    seen = remote.detect(street, OPTIONS)

    assert len(seen) >= 3
    assert seen == local.detect(street, OPTIONS)
    remote.close()


def test_a_model_is_described_by_its_server_and_a_side_file_of_ours(triton: TritonServer, protocol: str) -> None:
    card = describe(triton.model("aerial-vehicle", protocol))

    assert (card.name, card.engine_type, card.head, card.sha256) == ("aerial-vehicle", "triton", "yolov8", None)
    assert (card.input.resize, card.input.width, card.label(0)) == ("native", 960, "vehicle")
    assert [(spec.name, spec.shape, spec.dtype) for spec in card.inputs] == [
        ("images", (None, 3, None, None), "float32")
    ]


def test_without_a_side_file_the_servers_configuration_says_what_it_can(
    triton: TritonServer, protocol: str, tmp_path: Path
) -> None:
    card = describe(triton.model("aerial-vehicle", protocol, folder=tmp_path))

    assert (card.head, card.label(0)) == ("yolov8", "vehicle")
    assert card.warnings == ("free sides and no size in a side file: 640 px is used",)


def test_a_batch_larger_than_the_server_takes_is_asked_in_parts(
    triton: TritonServer, protocol: str, tmp_path: Path
) -> None:
    runtime = open_runtime(triton.model("colours", protocol))
    reference = OnnxRuntime(write_colour_model(tmp_path / "colours.onnx"))

    [together] = runtime.infer({"images": BATCH})

    assert getattr(runtime, "batch_max", None) == 4
    assert together == pytest.approx(reference.infer({"images": BATCH})[0])
    assert runtime.gathers
    runtime.close()


def test_pictures_of_all_streams_are_gathered_into_batches(triton: TritonServer) -> None:
    detector = load_detector(triton.model("gathered"))
    pictures = [ArrayPicture(np.full((64, 64, 3), grey, np.uint8)) for grey in range(130, 210, 5)]
    alone = [detector.detect(picture, DetectionOptions()) for picture in pictures]

    with closing(Workers(detector, count=2)) as workers:
        futures = [
            workers.submit(picture, DetectionOptions(), stream=f"video-{at % 4}") for at, picture in enumerate(pictures)
        ]
        seen = [future.result(timeout=60) for future in futures]

    assert seen == alone
    assert max(triton.batch_sizes("gathered")) == 4


def test_a_model_of_fixed_batch_and_one_without_a_batch_dimension_are_served(
    triton: TritonServer, protocol: str
) -> None:
    fixed = load_detector(triton.model("fixed", protocol))
    alone = load_detector(triton.model("alone", protocol))
    picture = ArrayPicture(np.full((64, 64, 3), 200, np.uint8))

    views = [fixed.view(picture, Crop(x=0, y=0, width=64, height=64))] * 3
    [seen] = alone.detect(picture, DetectionOptions())

    assert (fixed.model.input.batch, alone.model.input.batch) == (1, 1)
    assert [len(boxes.scores) for boxes in fixed.look(views, score_min=0.5)] == [1, 1, 1]
    assert seen.confidence == pytest.approx(200 / 255, abs=1e-4)
    assert (seen.width, seen.height) == pytest.approx((60 / 64 * 200 / 255,) * 2, abs=1e-4)
    fixed.close()
    alone.close()


def test_threads_share_a_runtime(triton: TritonServer, protocol: str) -> None:
    runtime = open_runtime(triton.model("colours", protocol))
    pictures = [BATCH[at : at + 1] for at in range(6)] * 4
    expected = [runtime.infer({"images": picture})[0] for picture in pictures]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda picture: runtime.infer({"images": picture})[0], pictures))

    assert np.array_equal(np.stack(found), np.stack(expected))
    runtime.close()


def test_a_model_that_the_server_does_not_have_is_missing_in_its_words(triton: TritonServer, protocol: str) -> None:
    unknown = refusal_of(triton.model("nobody", protocol))
    unknown_version = refusal_of(triton.model("colours/7", protocol))

    assert (unknown.code, unknown_version.code) == (FailureCode.MODEL_MISSING,) * 2
    assert "unknown model: 'nobody' is not found" in unknown.detail
    assert "version 7" in unknown_version.detail


def test_a_model_with_other_shapes_is_no_detector(triton: TritonServer, protocol: str) -> None:
    with pytest.raises(Failure, match=r"scores float32\[1, 10\]") as caught:
        load_detector(triton.model("classifier", protocol))

    assert caught.value.code is FailureCode.MODEL_NOT_A_DETECTOR


@pytest.mark.parametrize(
    "tensors",
    [{"images": BATCH[:1, :2]}, {"images": BATCH[:1].astype(np.float16)}, {"pictures": BATCH[:1]}],
    ids=["shape", "type", "name"],
)
def test_what_does_not_fit_is_a_failed_inference_in_the_servers_words(
    triton: TritonServer, protocol: str, tensors: dict[str, np.ndarray]
) -> None:
    runtime = open_runtime(triton.model("colours", protocol))

    with pytest.raises(Failure, match="colours") as caught:
        runtime.infer(tensors)

    assert caught.value.code is FailureCode.INFERENCE_FAILED
    assert runtime.infer({"images": BATCH[:1]})[0].shape == (1, 1, 6)
    runtime.close()


def test_a_server_that_dies_in_mid_stream_is_said_to_be_lost_and_used_again_when_it_is_back(
    triton: TritonServer,
) -> None:
    lost: list[str] = []
    models = [triton.model("colours", protocol) for protocol in PROTOCOLS]
    runtimes = [TritonRuntime(model) for model in models]
    for runtime in runtimes:
        runtime.watch(lost.append)
        runtime.infer({"images": BATCH})

    triton.kill()
    codes = [failed(runtime) for runtime in runtimes]
    wait_until(lambda: len(lost) == 2)
    refusals = [refusal_of(model) for model in models]
    triton.start("colours")

    assert codes == [FailureCode.ENGINE_UNAVAILABLE] * 2
    assert [refusal.code for refusal in refusals] == [FailureCode.ENGINE_UNAVAILABLE] * 2
    assert all("refused" in str(refusal) for refusal in refusals)
    assert all(lost), "the reason is the connection's: reset or refused, as it met the end"
    for runtime in runtimes:
        wait_until(partial(found_by, runtime))
        runtime.close()
    assert len(lost) == 2


def found_by(runtime: TritonRuntime) -> bool:
    """False while the server is away for it: gRPC tries to connect once a second."""
    try:
        return runtime.infer({"images": BATCH})[0].shape == (6, 1, 6)
    except Away:
        return False


def refusal_of(model: RemoteModel) -> Failure:
    with pytest.raises(Failure) as caught:
        open_runtime(model)
    return caught.value


def failed(runtime: TritonRuntime) -> FailureCode | None:
    try:
        runtime.infer({"images": BATCH})
    except Failure as failure:
        return failure.code
    return None


def test_a_model_that_was_unloaded_is_an_engine_that_is_not_available_until_it_is_back(triton: TritonServer) -> None:
    lost: list[str] = []
    runtime = TritonRuntime(triton.model("fixed"))
    runtime.watch(lost.append)

    triton.unload("fixed")
    with pytest.raises(Failure, match="no available versions") as caught:
        runtime.infer({"images": BATCH[:1]})
    wait_until(lambda: lost)
    triton.load("fixed")

    assert caught.value.code is FailureCode.ENGINE_UNAVAILABLE
    assert runtime.infer({"images": BATCH[:1]})[0].shape == (1, 1, 6)
    runtime.close()


def test_a_server_that_hangs_is_given_up_at_the_deadline(triton: TritonServer, protocol: str) -> None:
    """It is the way to it that falls silent: Triton's python backend aborts now and then when it has been stopped."""
    lost: list[str] = []
    with proxy_beside(triton.port(protocol)) as proxy:
        runtime = TritonRuntime(triton.model("colours", protocol, port=proxy.port), deadlines=QUICK)
        runtime.watch(lost.append)
        proxy.do(Proxy.fall_silent)
        started_s = time.monotonic()
        code = failed(runtime)
        took_s = time.monotonic() - started_s
        wait_until(lambda: lost)
        proxy.do(Proxy.speak)

        assert code is FailureCode.ENGINE_UNAVAILABLE
        assert 0.9 < took_s < 30
        assert "no answer in time" in lost[0]
        wait_until(lambda: failed(runtime) is None)
        runtime.close()


def test_closing_ends_the_watch(triton: TritonServer) -> None:
    lost: list[str] = []
    runtime = TritonRuntime(triton.model("colours"))
    runtime.watch(lost.append)

    runtime.close()

    assert not [thread for thread in threading.enumerate() if thread.name == "triton-watch"]
    assert lost == []
