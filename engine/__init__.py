"""Frames in, detections out: synchronous, and without a network.

Read in this order: `picture` (what a detector looks at), `growing_file` and `decode` (where frames come from), `images`,
`runtime` and `runtimes` (tensor in, tensor out), `preprocess`, `heads`, `postprocess`, `tiling`, `detector` (all of these
for one picture), `batching` (many streams, one runtime), `sampling`, `reporting`, `watching` (a whole video), `models`,
`loading`, `status`.
"""
