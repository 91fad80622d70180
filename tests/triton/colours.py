"""A model for Triton's python backend without a library to load: a box as wide as red, as high as green, as sure as blue.

The same as `tests/tiny_models.write_colour_model`: 0, 0, 60 * red, 60 * green, blue, 0 of the mean colour of each picture.
With an output of another name than `output`: zeros, as many as the configuration says.
"""

import json

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        [output] = json.loads(args["model_config"])["output"]
        self.name, self.dims = output["name"], output["dims"]

    def execute(self, requests):
        return [self.answer(pb.get_input_tensor_by_name(request, "images").as_numpy()) for request in requests]

    def answer(self, pictures):
        batch = pictures.reshape(-1, *pictures.shape[-3:])
        mean = batch.mean(axis=(2, 3), dtype=np.float32)
        rows = np.zeros((len(batch), 1, 6), np.float32)
        rows[:, 0, 2:5] = mean * np.array([60, 60, 1], np.float32)
        if self.name != "output":
            rows = np.zeros((len(batch), *self.dims), np.float32)
        shape = rows.shape if pictures.ndim == rows.ndim + 1 or self.name != "output" else self.dims
        return pb.InferenceResponse([pb.Tensor(self.name, rows.reshape(shape))])
