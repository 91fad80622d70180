"""Frames in, detections out: synchronous, and without a network.

Read in this order: `picture` (what a detector looks at), `growing_file`, `reading`, `containers`, `video`, `timeline`, `decode`
and `video_frame` (where frames come from), `orientation`, `images`, `opening`, `runtime` and `runtimes` (tensor in,
tensor out), `preprocess`, `heads`, `scoring`, `dense_heads` and `row_heads` (what the numbers of a model mean), `probing`,
`known_picture`, `evidence` and `recognition` (how that is told), `postprocess`, `sight` (these for some views), `tiling`,
`detector` (all of these for one picture), `showing`, `turns`, `gathering` and `batching` (many streams, one runtime),
`sampling`, `reporting`, `shot_windows`, `shot_model`, `shot_workers`, `shot_finder`, `shot_feed` and `shot_cuts` (its shots),
`confinement`, `frame_arena`, `handed_frame`, `sandbox_messages`, `sandbox_child`, `sandbox_nursery`, `sandboxed_video` and
`sandbox` (a video decoded in a process that can do nothing else), `decode_thread`, `account` and `watching` (a whole video),
`models`, `trial`, `loading`, `status`, `agreement`, `quantising`, `telemetry`.
"""
