"""ReLU and its activation vectors in one call, whose gradient needs no pass over the images of its own."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["PooledRelu"]


class PooledRelu(torch.autograd.Function):
    """ReLU and the means of its output.

    A ReLU's output is its own magnitude, and where it is 0 no gradient passes: what the means pass
    back is added to the output's gradient before ReLU's own backward pass, which then overwrites
    the sum.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, others: list[int], overwrite: bool) -> tuple[Tensor, Tensor]:
        """The output, which may overwrite the value, and its means over the axes `others`."""
        output = value.relu_() if overwrite else value.relu()
        if overwrite:
            ctx.mark_dirty(value)
        ctx.save_for_backward(output)
        ctx.others = others
        return output, output.mean(others, dtype=torch.promote_types(output.dtype, torch.float32))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, of_means: Tensor) -> tuple[Tensor, None, None]:
        """The value's gradient, of the output's and the means'."""
        (output,) = ctx.saved_tensors
        share = of_means / math.prod(output.shape[axis] for axis in ctx.others)
        for axis in ctx.others:
            share = share.unsqueeze(axis)
        total = gradient + share.to(gradient.dtype)
        return torch.ops.aten.threshold_backward.grad_input(total, output, 0, grad_input=total), None, None
