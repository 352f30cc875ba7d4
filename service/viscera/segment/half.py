"""A float32 network typed anew: convolutions in half precision, norms in float32.

TensorRT 11 has no flags for precision: networks are strongly typed, so the types stand in the
graph. What is not on the list of `HALF` stays float32 between casts, because a sum over a whole
patch overflows half precision or loses its small terms.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from viscera.errors import ModelRefused

HALF = frozenset(
    {
        "Add",
        "Concat",
        "Conv",
        "ConvTranspose",
        "Identity",
        "LeakyRelu",
        "MaxPool",
        "Relu",
        "Reshape",
        "Slice",
        "Split",
        "Transpose",
    }
)
"""Operators that gain by it or only pass values on."""

_FLOAT, _HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)


def to_half(network: onnx.ModelProto) -> onnx.ModelProto:
    """Return `network` with the operators of `HALF` in half precision; inputs and outputs stay.

    Raises
    ------
    ModelRefused
        If a weight is beyond half precision's range.
    """
    typed = onnx.ModelProto()
    typed.CopyFrom(onnx.shape_inference.infer_shapes(network))
    graph = typed.graph
    nodes = list(_Typing(graph).nodes())
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    weights = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    # They tell the old types; readers infer them again.
    del graph.value_info[:]
    onnx.checker.check_model(typed)
    return typed


class _Typing:
    """Which type each float of a graph has so far, and the casts between them."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._weights = {weight.name: weight for weight in graph.initializer}
        self._outputs = {output.name for output in graph.output}
        known = [*graph.input, *graph.value_info, *graph.output]
        self._type: dict[str, int] = {
            v.name: _FLOAT for v in known if v.type.tensor_type.elem_type == _FLOAT
        }
        self._type |= {w.name: _FLOAT for w in graph.initializer if w.data_type == _FLOAT}
        self._renamed: dict[str, str] = {}
        self._cast: dict[tuple[str, int], str] = {}

    def nodes(self) -> Iterator[onnx.NodeProto]:
        """Yield the graph's nodes in their order, with casts where types meet."""
        for node in self._graph.node:
            wanted = _HALF if node.op_type in HALF else _FLOAT
            inputs = []
            for name in node.input:
                taken, cast = self._as(self._renamed.get(name, name), wanted)
                yield from cast
                inputs.append(taken)
            node.input[:] = inputs
            promised = [self._produce(node, k, wanted) for k in range(len(node.output))]
            yield node
            for made, name in filter(None, promised):
                yield helper.make_node("Cast", [made], [name], to=_FLOAT)

    def _produce(self, node: onnx.NodeProto, k: int, wanted: int) -> tuple[str, str] | None:
        """Note the type of one result; return (its new name, its old) if that was promised."""
        name = node.output[k]
        if name not in self._type or wanted == _FLOAT:
            return None
        if name not in self._outputs:
            self._type[name] = wanted
            return None
        node.output[k] = made = f"{name}_half"
        self._renamed[name] = made
        self._type[made] = wanted
        return made, name

    def _as(self, name: str, wanted: int) -> tuple[str, list[onnx.NodeProto]]:
        """Return what holds `name` in the wanted type, and the nodes that make it."""
        if self._type.get(name, wanted) == wanted:
            return name, []
        if (name, wanted) in self._cast:
            return self._cast[name, wanted], []
        suffix = "half" if wanted == _HALF else "single"
        made = self._cast[name, wanted] = f"{name}_as_{suffix}"
        self._type[made] = wanted
        if name in self._weights:
            self._graph.initializer.append(_half_weight(self._weights[name], made))
            return made, []
        return made, [helper.make_node("Cast", [name], [made], to=wanted)]


def _half_weight(weight: TensorProto, name: str) -> TensorProto:
    values = numpy_helper.to_array(weight)
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise ModelRefused(
            f"a weight of {weight.name} is {np.abs(values).max():.3g}, half precision ends at"
            " 65504; serve this network in float32"
        )
    return numpy_helper.from_array(half, name)
