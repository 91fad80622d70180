"""What every runtime does with tensors, and what it says when it cannot."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import external_data_helper

from contracts.failures import Failure, FailureCode
from contracts.settings import Provider
from engine.models import open_model
from engine.opening import open_runtime
from engine.runtimes.onnx import OnnxRuntime
from engine.runtimes.openvino import OpenVinoRuntime
from engine.runtimes.scripted import ScriptedRuntime, blobs
from tests.tiny_models import write_colour_model, write_script

BATCH = np.random.default_rng(3).random((3, 3, 64, 64)).astype(np.float32)


def test_an_onnx_model_says_its_inputs_and_outputs_with_free_dimensions(tmp_path: Path) -> None:
    runtime = OnnxRuntime(write_colour_model(tmp_path / "model.onnx"))

    assert [(spec.name, spec.shape, spec.dtype) for spec in runtime.inputs] == [
        ("images", (None, 3, 64, 64), "float32")
    ]
    assert [(spec.name, spec.shape, spec.dtype) for spec in runtime.outputs] == [("output", (None, 1, 6), "float32")]
    assert runtime.metadata == {"end2end": "True"}
    assert runtime.missing_providers == ()


def test_a_batch_gives_what_its_entries_give_alone(tmp_path: Path) -> None:
    runtime = OnnxRuntime(write_colour_model(tmp_path / "model.onnx"))

    [together] = runtime.infer({"images": BATCH})
    alone = [runtime.infer({"images": BATCH[at : at + 1]})[0][0] for at in range(3)]

    assert together == pytest.approx(np.stack(alone))
    assert not np.allclose(together[0], together[1])


@pytest.mark.parametrize(
    "tensors",
    [
        {"images": BATCH[:, :2]},
        {"images": BATCH.astype(np.float64)},
        {"pictures": BATCH},
        {},
    ],
)
def test_a_tensor_that_does_not_fit_is_a_failed_inference(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    runtime = OnnxRuntime(write_colour_model(tmp_path / "model.onnx"))

    with pytest.raises(Failure) as caught:
        runtime.infer(tensors)

    assert caught.value.code is FailureCode.INFERENCE_FAILED


def test_a_gpu_that_is_asked_for_and_not_there_is_named_and_the_cpu_used(tmp_path: Path) -> None:
    path = write_colour_model(tmp_path / "model.onnx")

    asked, chosen = OnnxRuntime(path, device="cuda"), OnnxRuntime(path, device="auto")

    if not asked.gathers:  # this machine has none
        assert asked.missing_providers == ("CUDAExecutionProvider",)
        assert asked.infer({"images": BATCH})[0].shape == (3, 1, 6)
    assert chosen.missing_providers == ()
    assert chosen.gathers == asked.gathers


class Refused:
    """What onnxruntime-gpu does where CUDA's libraries are and no GPU, or a driver that is too old for them."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.asked: list[Any] = []

    def __call__(self, path: str, options: Any, *, providers: list[Any], enable_fallback: int) -> Any:
        self.asked.append(providers)
        if providers != ["CPUExecutionProvider"]:
            raise RuntimeError(
                "CudaCall(ERRTYPE) CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; file="
            )
        return self._session(path, options, providers=providers, enable_fallback=enable_fallback)


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_gpu_that_refuses_is_a_warning_with_its_reason_and_the_cpu_is_used(
    tmp_path: Path, device: Literal["auto", "cuda"], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    refused = Refused(onnxruntime.InferenceSession)
    monkeypatch.setattr(onnxruntime, "InferenceSession", refused)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcublas.so.13"))

    runtime = OnnxRuntime(write_colour_model(tmp_path / "model.onnx"), device=device)

    reason = "CUDAExecutionProvider (CUDA failure 100: no CUDA-capable device is detected)"
    assert runtime.missing_providers == (reason,)
    assert not runtime.gathers
    assert runtime.infer({"images": BATCH})[0].shape == (3, 1, 6)
    assert capfd.readouterr().out == ""
    [(_, options), _] = refused.asked[0]
    assert options == {"cudnn_conv_algo_search": "HEURISTIC"}  # batches are of any number of pictures


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_gpu_that_is_left_out_for_want_of_a_library_is_a_warning(
    tmp_path: Path, device: Literal["auto", "cuda"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime-gpu 1.31 without cuBLAS or cuDNN opens a session without CUDA and says nothing."""
    session = onnxruntime.InferenceSession

    def without_cuda(path: str, options: Any, **_: Any) -> Any:
        return session(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", without_cuda)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])

    runtime = OnnxRuntime(write_colour_model(tmp_path / "model.onnx"), device=device)

    assert runtime.missing_providers == ("CUDAExecutionProvider",)
    assert not runtime.gathers


RUNTIMES = [OnnxRuntime, OpenVinoRuntime]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_model_that_reads_a_file_outside_its_folder_is_refused(
    tmp_path: Path, runtime: type[OnnxRuntime | OpenVinoRuntime]
) -> None:
    inside = tmp_path / "models"
    inside.mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 4 * 18)
    path = write_colour_model(inside / "model.onnx")
    keep_weights_in(path, "../secret")

    with pytest.raises(Failure) as caught:
        runtime(path)

    assert caught.value.code is FailureCode.MODEL_CORRUPT


def keep_weights_in(path: Path, location: str) -> None:
    model = onnx.load(path)
    constant = next(node for node in model.graph.node if node.output[0] == "weights")
    initializer = model.graph.initializer.add()
    initializer.CopyFrom(constant.attribute[0].t)
    initializer.name = "weights"
    model.graph.node.remove(constant)
    external_data_helper.set_external_data(initializer, location, 0, 72)
    initializer.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())


# -- openvino --


def test_openvino_says_of_a_model_what_onnxruntime_says(tmp_path: Path) -> None:
    path = write_colour_model(tmp_path / "model.onnx")

    one, other = OnnxRuntime(path), OpenVinoRuntime(path)

    assert (other.inputs, other.outputs) == (one.inputs, one.outputs)
    assert other.metadata == one.metadata == {"end2end": "True"}


def test_openvino_sees_nearly_the_same_in_any_batch_from_any_thread(tmp_path: Path) -> None:
    path = write_colour_model(tmp_path / "model.onnx")
    [exact] = OnnxRuntime(path).infer({"images": BATCH})
    runtime = OpenVinoRuntime(path)

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda at: runtime.infer({"images": BATCH[at % 3 : at % 3 + 1]})[0], range(24)))
    [together] = runtime.infer({"images": BATCH})

    assert together.shape == (3, 1, 6)
    assert np.allclose(together, exact, rtol=0.02)  # bfloat16 has 8 bits
    for at, answer in enumerate(answers):
        assert np.allclose(answer, exact[at % 3 : at % 3 + 1], rtol=0.02)


def test_what_openvino_returned_stays_when_it_infers_again(tmp_path: Path) -> None:
    runtime = OpenVinoRuntime(write_colour_model(tmp_path / "model.onnx"))
    [first] = runtime.infer({"images": BATCH})
    before = first.copy()

    runtime.infer({"images": np.zeros_like(BATCH)})

    assert (first == before).all()


def test_openvino_says_what_is_wrong_with_a_file_and_with_a_tensor(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    runtime = OpenVinoRuntime(write_colour_model(tmp_path / "model.onnx"))

    with pytest.raises(Failure) as of_file:
        OpenVinoRuntime(tmp_path / "broken.onnx")
    with pytest.raises(Failure) as of_tensor:
        runtime.infer({"images": BATCH[:, :2]})

    assert of_file.value.code is FailureCode.MODEL_CORRUPT
    assert "broken.onnx" in of_file.value.detail
    assert of_tensor.value.code is FailureCode.INFERENCE_FAILED


@pytest.mark.parametrize(("provider", "engine_type"), [("auto", "onnx"), ("cpu", "onnx"), ("openvino", "openvino")])
def test_the_provider_chooses_the_runtime(tmp_path: Path, provider: Provider, engine_type: str) -> None:
    path = write_colour_model(tmp_path / "model.onnx")

    assert open_model(path, provider=provider).card.engine_type == engine_type


def test_a_script_needs_no_provider(tmp_path: Path) -> None:
    assert open_runtime(write_script(tmp_path / "model.json"), provider="openvino").engine_type == "scripted"


# -- scripted --


def image(*squares: tuple[int, int, int, int, tuple[int, int, int]]) -> np.ndarray:
    pixels = np.full((1, 128, 128, 3), 90, np.uint8)
    for x1, y1, x2, y2, rgb in squares:
        pixels[0, y1:y2, x1:x2] = rgb
    return pixels


def rows(runtime: ScriptedRuntime, pixels: np.ndarray) -> list[list[float]]:
    [found] = runtime.infer({"images": pixels})
    return [row.astype(np.float64).round(3).tolist() for row in found[0] if row[4] > 0]


def test_a_script_finds_every_blob_of_its_colours_where_it_lies(tmp_path: Path) -> None:
    runtime = ScriptedRuntime(write_script(tmp_path / "model.json"))

    found = rows(
        runtime, image((10, 20, 40, 30, (255, 0, 0)), (60, 20, 70, 90, (250, 30, 10)), (0, 0, 8, 8, (0, 0, 255)))
    )

    assert found == [[10, 20, 40, 30, 0.9, 0], [60, 20, 70, 90, 0.9, 0], [0, 0, 8, 8, 0.6, 2]]


def test_a_script_sees_nothing_on_grey_and_ignores_specks(tmp_path: Path) -> None:
    runtime = ScriptedRuntime(write_script(tmp_path / "model.json"))

    assert rows(runtime, image()) == []
    assert rows(runtime, image((5, 5, 8, 8, (255, 0, 0)))) == []


def test_a_script_looks_at_every_picture_of_a_batch(tmp_path: Path) -> None:
    runtime = ScriptedRuntime(write_script(tmp_path / "model.json"))
    batch = np.concatenate([image((10, 10, 20, 20, (255, 0, 0))), image(), image((30, 30, 40, 40, (0, 255, 0)))])

    [found] = runtime.infer({"images": batch})

    assert (found[:, :, 4] > 0).sum(axis=1).tolist() == [1, 0, 1]


def test_a_script_can_fail_every_second_time_after_it_was_loaded(tmp_path: Path) -> None:
    runtime = ScriptedRuntime(write_script(tmp_path / "model.json", fail_every=2))
    runtime.infer({"images": image()})  # the one at loading

    outcomes: list[FailureCode | None] = []
    for _ in range(4):
        try:
            runtime.infer({"images": image()})
            outcomes.append(None)
        except Failure as failure:
            outcomes.append(failure.code)

    assert outcomes == [None, FailureCode.INFERENCE_FAILED] * 2


@pytest.mark.parametrize(
    "fields",
    [
        {"runtime": "onnx"},
        {"input": [128]},
        {"input": [8, 8]},
        {"objects": [{"class": 0, "rgb": [256, 0, 0]}]},
        {"objects": [{"class": 0}]},
        {"tolerance": -1},
        {"delay_s": -1},
        {"speed": 1},
    ],
)
def test_a_script_that_says_something_wrong_is_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    with pytest.raises(Failure) as caught:
        ScriptedRuntime(write_script(tmp_path / "model.json", **fields))

    assert caught.value.code is FailureCode.MODEL_CORRUPT


def areas_of(*lines: str) -> list[tuple[tuple[float, ...], int]]:
    mask = np.array([[character == "#" for character in line] for line in lines])
    return [(blob.corners, blob.area_px) for blob in blobs(mask)]


def test_arms_that_join_further_down_are_one_blob() -> None:
    assert areas_of("#.#.#", "#.#.#", "#####") == [((0, 0, 5, 3), 11)]
    assert areas_of("..#..", "###..", "#...#") == [((0, 0, 3, 3), 5), ((4, 2, 5, 3), 1)]


def test_blobs_that_touch_at_a_corner_are_two() -> None:
    assert len(areas_of("#.", ".#")) == 2


def test_no_blobs_in_an_empty_mask() -> None:
    assert areas_of("...", "...") == []
