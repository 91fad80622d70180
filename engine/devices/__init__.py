"""GPU memory and streams. Reading order: `memory` (what is needed), `cuda_core`, `pycuda` (who offers it), `opening`."""
