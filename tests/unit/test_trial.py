"""A model file is tried in a process of its own: what harms that one does not harm ours."""

import sys
import threading
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from contracts.failures import Failure, FailureCode
from engine.trial import Child, TrialLimits, Trials
from tests.hostile_models import write_endless_model, write_hungry_model
from tests.processes import wait_until
from tests.tiny_models import write_colour_model, write_constant_model, write_script

IMPOSSIBLE = TrialLimits(memory_bytes=1 << 20, cpu_s=1, wall_s=0.001)
"""Nothing passes a trial with these: who passes was not tried."""


def refusal(path: Path, limits: TrialLimits | None = None) -> Failure:
    with pytest.raises(Failure) as failed:
        Child(path, limits or TrialLimits()).wait()
    return failed.value


def refusal_of(code: str, limits: TrialLimits | None = None) -> str:
    """Of a process that runs this code instead of a trial."""
    with pytest.raises(Failure) as failed:
        Child(Path("m.onnx"), limits or TrialLimits(), command=(sys.executable, "-S", "-c", code)).wait()
    assert failed.value.code is FailureCode.MODEL_CORRUPT
    return failed.value.detail


def test_a_model_that_wants_32_gb_is_refused(tmp_path: Path) -> None:
    hungry = write_hungry_model(tmp_path / "hungry.onnx")
    assert hungry.stat().st_size < 300

    failure = refusal(hungry)
    assert failure.code is FailureCode.MODEL_CORRUPT
    assert "34359738368" in failure.detail


def test_a_model_that_never_ends_is_refused(tmp_path: Path) -> None:
    failure = refusal(write_endless_model(tmp_path / "endless.onnx"), TrialLimits(cpu_s=1))

    assert failure.detail == "endless.onnx: its trial took more than 1 s of CPU time"


def test_what_is_no_detector_is_refused_with_the_reason_of_a_load(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"\x08\x08" + bytes(200))

    assert refusal(garbage).code is FailureCode.MODEL_CORRUPT
    assert "garbage.onnx" in refusal_of_missing(tmp_path)


def refusal_of_missing(folder: Path) -> str:
    failure = refusal(folder / "no" / "garbage.onnx")
    assert failure.code is FailureCode.MODEL_MISSING
    return failure.detail


def test_what_is_refused_for_a_thousand_tensors_of_long_names_is_refused_in_few_words(tmp_path: Path) -> None:
    outputs = {f"{'of-a-long-name-' * 20}{number}": np.zeros((1, 3, 5), np.float32) for number in range(1000)}
    model = write_constant_model(tmp_path / "model.onnx", outputs)

    refused = refusal(model)

    assert refused.code is FailureCode.MODEL_NOT_A_DETECTOR
    assert "and 984 more; if it is a detector, write into" in refused.detail
    assert len(refused.detail) < 4000


def test_a_crash_a_standstill_and_a_strange_end_are_refusals() -> None:
    assert "crashed the process that tried it (SIGSEGV)" in refusal_of("import os; os.kill(os.getpid(), 11)")
    assert "took more than 0.2 s" in refusal_of("import time; time.sleep(60)", TrialLimits(wall_s=0.2))
    assert "ended with status 3" in refusal_of("raise SystemExit(3)")
    assert "took more than 0.5 s" in refusal_of("print('x' * 10**6)", TrialLimits(wall_s=0.5))


def test_a_model_that_passed_is_not_tried_again_here_or_elsewhere(tmp_path: Path) -> None:
    model = write_colour_model(tmp_path / "a.onnx")
    trials = Trials(tmp_path / "tried")
    trials.check(model)

    Trials(tmp_path / "tried", limits=IMPOSSIBLE).check(model)
    (tmp_path / "a.json").write_text('{"thresholds": {"nms": 0.5}}')
    with pytest.raises(Failure):
        Trials(tmp_path / "tried", limits=IMPOSSIBLE).check(model)


def test_a_folder_that_cannot_be_written_remembers_nothing_but_the_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tried").write_text("a file")
    model = write_colour_model(tmp_path / "a.onnx")
    trials = Trials(tmp_path / "tried" / "below")
    trials.check(model)
    model_too = tmp_path / "b.onnx"
    model_too.write_bytes(model.read_bytes())
    monkeypatch.setattr("engine.trial.Child", None)  # nothing is tried any more

    trials.check(model_too)


def test_a_file_that_failed_is_not_tried_at_every_command(tmp_path: Path) -> None:
    model = write_colour_model(tmp_path / "a.onnx")
    trials = Trials(tmp_path / "tried", limits=IMPOSSIBLE)
    with pytest.raises(Failure) as first:
        trials.check(model)
    with pytest.raises(Failure) as again:
        trials.check(model)

    assert again.value is not first.value
    assert again.value.record() == first.value.record()


def test_a_script_needs_no_process(tmp_path: Path) -> None:
    trials = Trials(tmp_path / "tried", limits=IMPOSSIBLE)
    trials.check(write_script(tmp_path / "a.json"))
    (tmp_path / "b.json").write_text("{}")

    with pytest.raises(Failure, match="no script"):
        trials.check(tmp_path / "b.json")


BUILT_FOR_A_GPU = """
import sys, onnxruntime
onnxruntime.get_available_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
onnxruntime.preload_dlls = lambda: print("Failed to load libcublas.so.13")
from engine import trial
sys.argv = ["trial", sys.argv[1], trial._packed(trial.TrialLimits())]
trial.main()
"""
"""An onnxruntime that looks for CUDA and speaks on the standard output of what it does not find, as onnxruntime-gpu 1.31."""


def test_a_model_is_tried_on_the_cpu_also_where_onnxruntime_was_built_for_a_gpu(tmp_path: Path) -> None:
    model = write_colour_model(tmp_path / "a.onnx")

    Child(model, TrialLimits(), command=(sys.executable, "-P", "-c", BUILT_FOR_A_GPU, str(model))).wait()


def test_a_plan_needs_a_gpu_and_is_not_tried_but_somebody_has_to_vouch_for_it(tmp_path: Path) -> None:
    trials = Trials(tmp_path / "tried", limits=IMPOSSIBLE)
    plan = tmp_path / "yolo11n.engine"
    plan.write_bytes(b"a plan")

    with pytest.raises(Failure, match="nobody vouches"):
        trials.check(plan)
    (tmp_path / "yolo11n.json").write_text(f'{{"sha256": "{sha256(b"a plan").hexdigest()}"}}')
    trials.check(plan)


def test_closing_ends_a_trial_that_runs(tmp_path: Path) -> None:
    trials = Trials(tmp_path / "tried")
    model = write_endless_model(tmp_path / "endless.onnx")
    failures: list[Failure] = []

    def check() -> None:
        try:
            trials.check(model)
        except Failure as failure:
            failures.append(failure)

    checking = threading.Thread(target=check)
    checking.start()
    children = Path(f"/proc/self/task/{checking.native_id}/children")
    wait_until(children.read_text)
    trials.close()
    checking.join(60)

    assert "SIGKILL" in failures[0].detail
