"""One file for each network: it exports a `Config` and `build(config, input_shape, outputs) -> nn.Module`.

The module has two children: `body` maps inputs to features [N, F], `head` maps features to outputs. Its norms are
layers.norm.TaskNorm. Its initial values come from torch's default generator, which the caller has seeded.
"""
