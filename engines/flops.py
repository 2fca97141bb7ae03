"""How much arithmetic an operator is: two for each multiply-add of convolutions and matrix products, one for each
output element of the rest. Free axes count as 1, so that the figures are for one input.

Against published figures: ResNet-50 at 224 x 224 is 4.09 billion multiply-adds (He et al. 2016 say 3.8, of the
variant that strides in its first convolutions), that is 8.2 GFLOP here.
"""

import math
from typing import Any, Callable, List, Optional

Dims = Callable[[str], Optional[List[int]]]


def flops_of(node: Any, dims: Dims) -> int:
    """``dims(name)``: the sizes of a value, None where they are not known; then the operator counts as nothing."""
    output = dims(node.output[0]) if node.output else None
    if output is None:
        return 0
    elements = math.prod(output)
    second = dims(node.input[1]) if len(node.input) > 1 else None
    if second and node.op_type in ("Conv", "ConvInteger", "QLinearConv"):
        kernel = dims(node.input[3]) if node.op_type == "QLinearConv" else second
        return 2 * elements * math.prod((kernel or second)[1:])
    if second and node.op_type == "ConvTranspose":
        return 2 * math.prod(dims(node.input[0]) or [0]) * math.prod(second[1:])
    if second and node.op_type == "Gemm":
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return 2 * elements * second[1 if transposed else 0]
    if second and node.op_type in ("MatMul", "MatMulInteger"):
        return 2 * elements * second[-2 if len(second) > 1 else 0]
    return elements
