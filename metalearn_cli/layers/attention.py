"""Attention that can be differentiated twice; torch's fast attention kernels cannot (torch 2.13)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class PlainAttention(TorchFunctionMode):
    """A context manager: inside it, in this thread, torch computes attention by matrix products and a softmax."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        _types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if function is F.scaled_dot_product_attention:
            return _attention(*args, **given)
        # Calls inside multi_head_attention_forward do not come through this method. Asked for its weights, it uses
        # plain operations by itself.
        if function is F.multi_head_attention_forward and given.get("need_weights") is False:
            return function(*args, **given | {"need_weights": True})[0], None
        return function(*args, **given)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    # torch.nn.attention.sdpa_kernel would do the same, but for all threads of the process.
    outputs: Tensor = torch.ops.aten._scaled_dot_product_attention_math.default(
        query, key, value, attn_mask, dropout_p, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
    )[0]
    return outputs
