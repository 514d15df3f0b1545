"""Networks and ONNX models whose conversion is easy to get wrong: each function is a factory for `edgekit import`.

`onnx_…` return an ONNX model and the shape of one sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

ROWS: dict[str, Callable[[], Any]] = {}
MODELS: dict[str, Callable[[], Any]] = {}
IMAGE, ROW = (3, 7, 6), (6, 8)


class Computed(nn.Module):
    def __init__(self, compute: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.compute, self.layers = compute, nn.ModuleDict(layers)


class One(Computed):
    def forward(self, x: Tensor) -> Any:
        return self.compute(x, *self.layers.values())


class Two(Computed):
    def forward(self, a: Tensor, b: Tensor) -> Any:
        return self.compute(a, b, *self.layers.values())


def row(name: str, compute: Callable[..., Any], shape: tuple[int, ...] = IMAGE, layer: Any = None, **how: Any) -> None:
    """A factory of this name; `second`: the shape of a second input, `integers`: the inputs are."""

    def make() -> Any:
        torch.manual_seed(0)
        layers = {"layer": layer()} if layer else {}
        shapes = [shape, *([how["second"]] if "second" in how else [])]
        examples = tuple(
            torch.randint(0, 5, (1, *sizes)) if how.get("integers") else torch.randn(1, *sizes) for sizes in shapes
        )
        network = (Two if "second" in how else One)(compute, **layers)
        return (network, examples, *([how["axes"]] if "axes" in how else []))

    ROWS[name] = globals()[name] = make


def applied(name: str, layer: Callable[[], nn.Module], shape: tuple[int, ...] = IMAGE, **how: Any) -> None:
    row(name, lambda x, module: module(x), shape, layer, **how)


def slopes() -> nn.Module:
    layer = nn.PReLU(3)
    layer.weight.data = torch.tensor([0.5, 1.5, -2.5])
    return layer


def conv(*arguments: Any, **options: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(*arguments, **options)


class Pair(NamedTuple):
    low: Tensor
    high: Tensor


def normed(layer: nn.Module) -> nn.Module:
    for tensor in (*layer.parameters(), *layer.buffers()):
        if tensor.is_floating_point():
            tensor.data = torch.rand_like(tensor) + 0.01
    return layer


# activations
applied("prelu_per_channel", slopes)
applied("leaky_relu_above_one", lambda: nn.LeakyReLU(1.7))
applied("leaky_relu_negative", lambda: nn.LeakyReLU(-0.6))
row("clip_open_above", lambda x: x.clamp(min=-0.5))
row("clip_reversed", lambda x: x.clamp(1.0, -1.0) + x)
row("gelu_both", lambda x: (functional.gelu(x), functional.gelu(x, approximate="tanh")))
row("elu_and_softplus", lambda x: functional.elu(x, 1.3) + functional.softplus(x * 9, beta=2.0, threshold=5.0))
row("hard_ones", lambda x: functional.hardswish(x) + functional.hardsigmoid(x) + functional.hardtanh(x, -2, 0.3))
# types
row("cast_truncates", lambda x: x.to(torch.int32).float() + x)
row("cast_wraps", lambda x: (x * 100).to(torch.int32).to(torch.uint8).float())
row("half_rounds", lambda x: (x * 3e2).half().float())
row("half_product", lambda x: (x.half() * x.half()).float())
row("truth_values", lambda x: ((x > 0) & ~(x > 1)).float() * x)
row("round_half_to_even", lambda x: torch.round(torch.round(x * 2) / 2) + torch.trunc(x) + torch.floor(x))
row(
    "integer_division",
    lambda a, b: (a - 9) // (b + 1) + torch.div(a - 9, b + 1, rounding_mode="trunc"),
    (6,),
    second=(6,),
    integers=True,
)
row(
    "integer_remainder",
    lambda a, b: (a - 9) % (b + 1) + 10 * torch.fmod(a - 9, b + 1),
    (6,),
    second=(6,),
    integers=True,
)
row("float_remainder", lambda x: torch.remainder(x, 1.5) + 10 * torch.fmod(x, 1.5))
row("large_integers", lambda x: x * 3_000_000_000 // 7, (6,), integers=True)
row("float64_inside", lambda x: (x.double() * 1e-3).sum(1).float())
# layout
row(
    "flatten_of_channels",
    lambda x, layer: layer[1](layer[0](x).flatten(1)),
    layer=lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(80, 5)),
)
row(
    "transpose_to_dense",
    lambda x, layer: layer[1](layer[0](x).permute(0, 2, 3, 1)),
    layer=lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 5)),
)
row(
    "mean_over_axes",
    lambda x, layer: layer(x).mean((1, 3), keepdim=True) + layer(x).mean(2, keepdim=True),
    layer=conv(3, 4, 3),
)
row(
    "norm_of_channels",
    lambda x, layer: functional.normalize(layer(x), dim=1) + layer(x).argmax(1, keepdim=True),
    layer=conv(3, 4, 3),
)
row(
    "split_uneven",
    lambda x, layer: torch.cat([t * i for i, t in enumerate(layer(x).split([1, 3, 2], 1), 1)][::-1], 1),
    layer=conv(3, 6, 3),
)
row(
    "shuffle_of_pixels",
    lambda x: functional.pixel_unshuffle(functional.pixel_shuffle(x, 2), 2) + functional.channel_shuffle(x, 2),
    (8, 4, 6),
)
row("flip_and_roll", lambda x: x.flip(3).roll(2, 2) + x.transpose(1, 2).reshape(x.shape))
# inputs and outputs
row("two_and_two", lambda a, b: (a - b.mean(1, keepdim=True), b * 2), second=IMAGE)
row("dict_of_outputs", lambda x: {"b": x + 1, "a": -x})
row("named_outputs", lambda x: Pair(x.amin((2, 3)), x.amax((2, 3))))
row("same_output_twice", lambda x: (y := x * 2, y))
row("input_returned", lambda x: (x, x - 1))
row("unused_input", lambda a, b: a * -1, second=(2,))
row("output_of_constants", lambda x: (x * 2, torch.arange(4.0).expand(x.shape[0], 4)))
row(
    "open_length",
    lambda x, layer: layer(x.transpose(1, 2)).amax(2),
    ROW,
    lambda: nn.Conv1d(8, 4, 3, padding=1),
    axes={"x": {1: "length"}},
)
# pads and windows
row("pad_reflect", lambda x: functional.pad(x, (1, 2, 3, 0), mode="reflect"))
row("pad_edge", lambda x: functional.pad(x, (2, 0, 1, 3), mode="replicate"))
row("pad_circular", lambda x: functional.pad(x, (1, 2, 2, 1), mode="circular"))
row("pad_and_crop", lambda x: functional.pad(x, (1, -2, -1, 2), value=-3.0))
applied("maxpool_ceil", lambda: nn.MaxPool2d(3, 2, padding=1, ceil_mode=True))
applied("maxpool_dilated", lambda: nn.MaxPool2d(2, 1, dilation=2))
applied("avgpool_without_pads", lambda: nn.AvgPool2d(3, 2, padding=1, count_include_pad=False))
applied("avgpool_ceil", lambda: nn.AvgPool2d(3, 2, padding=1, ceil_mode=True))
applied("adaptive_pool", lambda: nn.AdaptiveAvgPool2d((3, 4)))
applied("conv_dilated", conv(3, 4, 3, stride=2, padding=(1, 2), dilation=(1, 2)))
applied("conv_same_even", conv(3, 4, 4, padding="same"))
applied("conv_multiplier", conv(3, 9, 3, groups=3))
applied("conv_grouped", conv(8, 12, 3, groups=4), (8, 6, 6))
applied("conv_reflect", conv(3, 4, 3, padding=1, padding_mode="reflect"))
applied("transposed_output_padding", lambda: nn.ConvTranspose2d(3, 4, 3, 2, 1, output_padding=1))
applied("transposed_grouped", lambda: nn.ConvTranspose2d(8, 4, 3, 2, 1, groups=2, dilation=2), (8, 5, 5))
# resizes
for mode, corners in (("nearest", None), ("bilinear", False), ("bilinear", True), ("bicubic", False)):
    row(
        f"resize_{mode}{'_corners' if corners else ''}",
        lambda x, m=mode, c=corners: functional.interpolate(x, scale_factor=1.7, mode=m, align_corners=c),
    )
row(
    "resize_down",
    lambda x: functional.interpolate(x, size=(3, 4), mode="bilinear") + functional.interpolate(x, size=(3, 4)),
)
# sequences
row("gru_both_ways", lambda x, layer: layer(x)[0], ROW, lambda: nn.GRU(8, 5, bidirectional=True, batch_first=True))
row("lstm_both_ways", lambda x, layer: layer(x)[0], ROW, lambda: nn.LSTM(8, 5, 2, bidirectional=True, batch_first=True))
row("causal_attention", lambda x: functional.scaled_dot_product_attention(x, x, x, is_causal=True), ROW)
row(
    "masked_attention",
    lambda x: (x @ x.mT).masked_fill(torch.ones(6, 6).triu(1).bool(), float("-inf")).softmax(-1) @ x,
    ROW,
)
# axes, indices, numbers
row("softmax_axes", lambda x: x.softmax(1) + x.log_softmax(2) + x.softmax(-1))
row("argmax_ties", lambda x: (torch.round(x).argmax(1), torch.round(x).argmin(3)))
row("top_k", lambda x: tuple(x.topk(3, 2)), (4, 9))
row("sort_down", lambda x: x.sort(dim=1, descending=True).values, (9,))
row("gather_negative", lambda x: x[:, [-1, 0, -2]] + x[:, -2:, :][:, :1], ROW)
row("where_nan", lambda x: torch.where(x > 0, x.log(), x))
row("power_of_negatives", lambda x: x**3 + x**2.0 + x.abs() ** x.clamp(-2, 2))
row("log_of_zero", lambda x: torch.log(x.relu()).clamp(min=-50.0))
row("reductions", lambda x: x.prod(3) + x.var(3) + x.std(3, unbiased=False) + x.norm(1, 3) + x.logsumexp(3))
row("cumulated", lambda x: x.cumsum(1) + x.flip(2).cumsum(2).flip(2), ROW)
row(
    "scattered",
    lambda x: torch.zeros_like(x).scatter_add(1, torch.tensor([[0, 0, 2, 5]]).expand(x.shape[0], 4), x[:, :4]),
    (6,),
)
row("one_hot", lambda x: functional.one_hot(x, 6).float() * 2 - 1, (4,), integers=True)
row("embedded", lambda x, layer: layer(x).sum(1), (4,), lambda: nn.Embedding(5, 3, padding_idx=0), integers=True)
row("einsum", lambda a, b: torch.einsum("bij,bkj->bik", a, b), ROW, second=(4, 8))
row("masks_of_triangles", lambda x: x.tril(-1) + 3 * x.triu(2), ROW)
# norms
applied("batch_norm_tiny_eps", lambda: normed(nn.BatchNorm2d(3, eps=1e-12)))
applied("instance_norm", lambda: normed(nn.InstanceNorm2d(3, eps=0.3, affine=True)))
applied("group_norm", lambda: normed(nn.GroupNorm(2, 8, eps=0.2)), (8, 4, 5))
applied("layer_norm", lambda: normed(nn.LayerNorm([7, 6], eps=0.5)))


def model(
    nodes: list[Any], constants: Mapping[str, Any], shape: tuple[int, ...], opset: int = 20, type: int = 1
) -> Any:
    ends = [helper.make_tensor_value_info(name, type, ["n", *sizes]) for name, sizes in (("x", shape), ("y", ()))]
    ends[1].type.tensor_type.ClearField("shape")
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "hostile", ends[:1], ends[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), shape


def onnx_row(
    name: str, type: str, constants: Mapping[str, Any] | None = None, shape: tuple[int, ...] = IMAGE, **attributes: Any
) -> None:
    kind, opset = attributes.pop("kind", TensorProto.FLOAT), attributes.pop("opset", 20)
    held = dict(constants or {})
    inputs = ["x", *("" if name.startswith("_") else name for name in held)]
    held = {name: value for name, value in held.items() if not name.startswith("_")}
    MODELS[name] = lambda: model([helper.make_node(type, inputs, ["y"], **attributes)], held, shape, opset, kind)


f, i = (lambda *values: np.array(values, "f4")), (lambda *values: np.array(values, "i8"))
onnx_row("onnx_prelu_axis", "PRelu", {"s": f(0.5, 1.5, 2.5)}, (3, 2, 3))
onnx_row("onnx_clip_reversed", "Clip", {"low": np.float32(1.5), "high": np.float32(-1)})
onnx_row("onnx_clip_above", "Clip", {"_low": None, "high": np.float32(-1)})
onnx_row("onnx_reshape_zero", "Reshape", {"to": i(0, -1, 6)})
onnx_row("onnx_gather_negative", "Gather", {"at": i(-1, 0, -3)}, axis=1)
onnx_row("onnx_pad_axes", "Pad", {"pads": i(1, 2, 0, 3), "_value": None, "axes": i(2, -1)}, mode="edge")
onnx_row(
    "onnx_pool_asymmetric", "AveragePool", kernel_shape=[3, 2], strides=[2, 2], pads=[0, 1, 2, 0], count_include_pad=1
)
onnx_row("onnx_pool_ceil", "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
onnx_row("onnx_pool_same", "MaxPool", kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER")
onnx_row(
    "onnx_conv_same",
    "Conv",
    {"w": np.random.default_rng(0).normal(size=(4, 3, 3, 2)).astype("f4")},
    strides=[2, 1],
    auto_pad="SAME_LOWER",
)
onnx_row("onnx_softmax_old", "Softmax", opset=11, axis=2)
onnx_row(
    "onnx_gemm_scaled",
    "Gemm",
    {"w": np.random.default_rng(0).normal(size=(5, 6)).astype("f4"), "b": f(0.5)},
    (6,),
    alpha=0.5,
    beta=-2.0,
    transB=1,
)
onnx_row("onnx_mod_integers", "Mod", {"by": np.array([3, -3, 2, -2], "i4")}, (4,), kind=TensorProto.INT32)
onnx_row("onnx_div_integers", "Div", {"by": np.array([3, -3, 2, -2], "i4")}, (4,), kind=TensorProto.INT32)
onnx_row("onnx_mod_floats", "Mod", {"by": f(1.5)}, fmod=1)
onnx_row("onnx_layer_norm_axis", "LayerNormalization", {"s": f(0.5, 1.5, -2.5)[:, None, None]}, axis=1, epsilon=0.1)
onnx_row(
    "onnx_resize_half",
    "Resize",
    {"_roi": None, "scales": f(1, 1, 2, 1.5)},
    mode="linear",
    coordinate_transformation_mode="pytorch_half_pixel",
)
onnx_row(
    "onnx_resize_asymmetric",
    "Resize",
    {"_roi": None, "scales": f(1, 1, 2, 2)},
    mode="nearest",
    coordinate_transformation_mode="asymmetric",
    nearest_mode="ceil",
)
onnx_row("onnx_reduce_noop", "ReduceSum", {"axes": np.zeros(0, "i8")}, noop_with_empty_axes=1)
onnx_row("onnx_cumsum_exclusive", "CumSum", {"axis": np.int64(1)}, exclusive=1, reverse=1)
onnx_row("onnx_lrn", "LRN", shape=(5, 4, 4), size=3, alpha=0.5)
onnx_row("onnx_depth_to_space", "DepthToSpace", shape=(8, 3, 2), blocksize=2, mode="CRD")
onnx_row("onnx_slice_backwards", "Slice", {"a": i(-1, 5), "b": i(-(2**62), 1), "axes": i(2, 3), "steps": i(-1, -2)})
onnx_row("onnx_hard_sigmoid", "HardSigmoid", alpha=0.4, beta=0.3)
onnx_row("onnx_shrink", "Shrink", lambd=0.7, bias=0.3)
onnx_row("onnx_scatter_elements", "ScatterElements", {"at": np.array([[-1, 0]]), "v": f(5, 7)[None]}, (4,), axis=1)
