"""One file for one network: each exports a `Config` and `build(config, input_shape, outputs) -> nn.Module`.

The module has two children, `body` (inputs to features [N, F]) and `head` (features to outputs), normalises with
core.norm.TaskNorm, and is initialised from torch's default generator, which the caller has seeded.
"""
