"""Triton's python backend, as the test server runs it: the ONNX file beside it, by onnxruntime, one thread a call."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        folder = Path(args["model_repository"]) / args["model_version"]
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        self.inputs = [entry["name"] for entry in json.loads(args["model_config"])["input"]]

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        tensors = {name: pb.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
        try:
            outputs = self.session.run(None, tensors)
        except Exception as error:  # noqa: BLE001 - whatever onnxruntime says, the client is told
            return pb.InferenceResponse(error=pb.TritonError(str(error)))
        names = [node.name for node in self.session.get_outputs()]
        tensors = [pb.Tensor(name, np.asarray(array)) for name, array in zip(names, outputs, strict=True)]
        return pb.InferenceResponse(tensors)
