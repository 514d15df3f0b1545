"""Files with weights of few bits, and with operators that only ONNX Runtime knows: what is read of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_files import save

from edgekit.core.errors import InputError
from edgekit.formats.onnx import Onnx
from edgekit.formats.shared.weight_encoding import Encoding, described, trait

FLOAT = TensorProto.FLOAT
MICROSOFT = {"domain": "com.microsoft"}


def decoder(path: Path) -> Path:
    """As ONNX Runtime's own builder writes one: packed int4 products, its own norms, grouped-query attention."""
    rng = np.random.default_rng(0)

    def nbits(name: str, rows: int, columns: int) -> dict[str, np.ndarray]:
        blocks = columns // 32
        return {
            f"{name}_q": rng.integers(0, 255, (rows, blocks, 16)).astype(np.uint8),
            f"{name}_s": np.full((rows, blocks), 0.01, np.float32),
        }

    constants = {
        "table_q": rng.integers(0, 255, (50, 32)).astype(np.uint8),
        "table_s": np.full((50, 2), 0.02, np.float32),
        "gain": np.ones(64, np.float32),
        **nbits("q", 64, 64),
        **nbits("k", 32, 64),
        **nbits("v", 32, 64),
        **nbits("head", 50, 64),
    }
    four = {"bits": 4, "block_size": 32, **MICROSOFT}

    def product(name: str, source: str, output: str, rows: int) -> object:
        return helper.make_node("MatMulNBits", [source, f"{name}_q", f"{name}_s"], [output], name, K=64, N=rows, **four)

    attention = helper.make_node(
        "GroupQueryAttention",
        ["qs", "ks", "vs", "past_k", "past_v", "lengths", "total"],
        ["a", "present_k", "present_v"],
        num_heads=4,
        kv_num_heads=2,
        **MICROSOFT,
    )
    nodes = [
        helper.make_node(
            "GatherBlockQuantized", ["table_q", "ids", "table_s"], ["e"], gather_axis=0, quantize_axis=1, **four
        ),
        helper.make_node("SimplifiedLayerNormalization", ["e", "gain"], ["n"], axis=-1, epsilon=1e-6),
        product("q", "n", "qs", 64),
        product("k", "n", "ks", 32),
        product("v", "n", "vs", 32),
        attention,
        helper.make_node("SkipSimplifiedLayerNormalization", ["a", "e", "gain"], ["h"], **MICROSOFT),
        product("head", "h", "logits", 50),
    ]
    past = [("past_k", FLOAT, [1, 2, 5, 16]), ("past_v", FLOAT, [1, 2, 5, 16])]
    counts = [("lengths", TensorProto.INT32, [1]), ("total", TensorProto.INT32, [])]
    ends = [("ids", TensorProto.INT64, [1, 3]), *past, *counts], [("logits", FLOAT, [1, 3, 50])]
    return save(path, nodes, *ends, constants)


def test_a_decoder_of_onnx_runtime(tmp_path: Path) -> None:
    facts = Onnx.describe(decoder(tmp_path / "m.onnx"))
    assert facts.traits == {"w4"}
    assert facts.quantized == (
        "weight-only: 4 int4 blocks of 32, symmetric; 1 int4 blocks of 32, symmetric (embedding)"
    )
    weights = 64 * 64 + 2 * 32 * 64 + 50 * 64
    assert facts.parameters == weights + 50 * 64 + 64, "not the packed bytes, and no scales"
    macs = {o.type.partition(":")[2] or o.type: o.macs for o in facts.operators if o.macs}
    assert sum(o.macs or 0 for o in facts.operators) == 3 * weights + 2 * 3 * 8 * 64
    assert macs["GroupQueryAttention"] == 2 * 3 * 8 * 64, "of three tokens after five"
    assert all(o.macs is not None for o in facts.operators)


def test_operators_that_nobody_knows(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    ends = [("x", FLOAT, [1, 3])], [("y", FLOAT, [1, 3])]
    path = save(tmp_path / "m.onnx", [helper.make_node("SimplifiedLayerNormalisation", ["x"], ["y"])], *ends)
    with pytest.raises(InputError, match="not a valid ONNX model"):
        Onnx.describe(path)


@pytest.mark.parametrize("block", [0, 16])
@pytest.mark.parametrize("element", [TensorProto.INT4, TensorProto.UINT4, TensorProto.INT8, TensorProto.UINT8])
def test_dequantized_constants(element: int, block: int, tmp_path: Path) -> None:
    import onnx

    signed, bits = (
        element in (TensorProto.INT4, TensorProto.INT8),
        4 if "4" in TensorProto.DataType.Name(element) else 8,
    )
    scale = np.full((32 // block, 48) if block else 48, 0.1, np.float32)
    how = {"axis": 0, "block_size": block} if block else {"axis": 1}
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], **how),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, [("x", FLOAT, [2, 32])], [("y", FLOAT, [2, 48])], {"s": scale}, opset=21)
    model = onnx.load(str(path))
    values = np.arange(32 * 48).reshape(32, 48) % (2**bits) - (2 ** (bits - 1) if signed else 0)
    zeros = np.zeros(scale.shape, int) if signed else np.arange(scale.size).reshape(scale.shape) % 3 + 7
    for name, array in (("w", values), ("z", zeros)):
        model.graph.initializer.append(helper.make_tensor(name, element, array.shape, array.flatten().tolist()))
    onnx.save(model, str(path))
    facts = Onnx.describe(path)
    assert facts.traits == {f"w{bits}"}
    assert f"int{bits} {f'blocks of {block}' if block else 'per channel'}, " in facts.quantized
    assert facts.quantized.endswith("asymmetric") != signed
    assert sum(o.macs or 0 for o in facts.operators) == 32 * 48


def test_the_trait_is_what_most_products_have() -> None:
    four, eight, plain, table = Encoding(4, 32), Encoding(8), Encoding(), Encoding(8, table=True)
    assert trait([four, four, eight, table, table, table]) == "w4"
    assert trait([four, eight, eight]) == "w8" and trait([four, eight]) == "w4"
    assert trait([plain, plain, four]) == "" and trait([table, plain]) == "" and trait([table]) == "w8"
    assert described([four, four, table, plain]) == (
        "weight-only: 2 int4 blocks of 32, symmetric; 1 int8 per channel, symmetric (embedding)"
    )
