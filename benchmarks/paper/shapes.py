"""The paper's models as numbers: for every block, the bytes that enter it and the operations it takes, from the shapes.

Nothing is measured here: a convolution of k x k over c_in channels that makes c_out channels of h x w takes
2 * k * k * c_in * c_out * h * w operations (a multiplication and an addition each), and a tensor of n numbers is 4 * n
bytes (FP32: what a plain PyTorch or ONNX graph hands over). Batch norm, ReLU and additions are left out of the count;
they are a few per cent. ``memory`` is the FP32 weights.
"""

from typing import List, NamedTuple

FLOAT_BYTES = 4


class Block(NamedTuple):
    """A unit at the finest cut. ``entering``: bytes of the tensor before it."""

    name: str
    entering: int
    operations: int
    memory: int


class Shape(NamedTuple):
    """A model. ``output``: bytes of its answer."""

    name: str
    blocks: List[Block]
    output: int

    @property
    def operations(self) -> int:
        return sum(block.operations for block in self.blocks)


def conv(k: int, c_in: int, c_out: int, side: int) -> "tuple[int, int]":
    """Operations and weights of a k x k convolution whose output is ``side`` x ``side``."""
    weights = k * k * c_in * c_out
    return 2 * weights * side * side, weights


def resnet50(side: int = 224) -> Shape:
    """He et al. 2016, table 1; the stride is on the 3 x 3 convolution (as torchvision has it). Cuts between blocks."""
    half, quarter = side // 2, side // 4
    operations, weights = conv(7, 3, 64, half)
    blocks = [_block("stem", 3 * side * side, operations, weights)]
    c_in, here = 64, quarter
    for stage, (width, count) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for i in range(count):
            out = here // 2 if stage > 0 and i == 0 else here
            parts = [conv(1, c_in, width, here), conv(3, width, width, out), conv(1, width, 4 * width, out)]
            if i == 0:
                parts.append(conv(1, c_in, 4 * width, out))
            blocks.append(_block(f"{stage + 1}.{i}", c_in * here * here, *map(sum, zip(*parts))))
            c_in, here = 4 * width, out
    blocks.append(_block("head", c_in * here * here, 2 * 2048 * 1000, 2048 * 1000))
    return Shape("resnet50", blocks, 1000 * FLOAT_BYTES)


def resnet56(side: int = 32) -> Shape:
    """The CIFAR-10 network of He et al. 2016, section 4.2: n = 9; shortcuts without weights. ``side`` 224: the images
    are resized, and every feature map grows with them."""
    name = "resnet56" if side == 32 else f"resnet56-{side}"
    operations, weights = conv(3, 3, 16, side)
    blocks = [_block("stem", 3 * side * side, operations, weights)]
    c_in, here = 16, side
    for stage, width in enumerate((16, 32, 64)):
        for i in range(9):
            out = here // 2 if stage > 0 and i == 0 else here
            parts = [conv(3, c_in, width, out), conv(3, width, width, out)]
            blocks.append(_block(f"{stage + 1}.{i}", c_in * here * here, *map(sum, zip(*parts))))
            c_in, here = width, out
    blocks.append(_block("head", c_in * here * here, 2 * 64 * 10, 64 * 10))
    return Shape(name, blocks, 10 * FLOAT_BYTES)


def gpt2(tokens: int = 128) -> Shape:
    """GPT-2 117M (Radford et al. 2019): 12 layers, 768 wide, one forward pass over ``tokens`` tokens. Hidden states of
    tokens x 768 cross the cuts; token ids (8 bytes each) enter; the answer is the next token's 50,257 logits."""
    width, vocabulary, ids = 768, 50257, 8 * tokens
    hidden = tokens * width
    matrices = 4 * width * width + 8 * width * width  # attention's four, the two of the feed-forward part
    layer = 2 * tokens * matrices + 4 * tokens * tokens * width
    blocks = [Block("embed", ids, 2 * hidden, (vocabulary + 1024) * width * FLOAT_BYTES)]
    blocks += [Block(f"layer{i}", hidden * FLOAT_BYTES, layer, matrices * FLOAT_BYTES) for i in range(12)]
    blocks.append(Block("head", hidden * FLOAT_BYTES, 2 * width * vocabulary, vocabulary * width * FLOAT_BYTES))
    return Shape("gpt2", blocks, vocabulary * FLOAT_BYTES)


def parts(shape: Shape, count: int) -> Shape:
    """``shape`` in ``count`` runs of blocks with as equal operations as the cuts allow (the longest run is the shortest
    possible; of equals, the one that sends least)."""
    blocks = shape.blocks
    best = {0: (0, 0, ())}  # type: dict[int, tuple[int, int, tuple[int, ...]]]
    for _ in range(count):
        following = {}  # type: dict[int, tuple[int, int, tuple[int, ...]]]
        for first, (longest, sent, cuts) in best.items():
            run = 0
            for stop in range(first + 1, len(blocks) + 1):
                run += blocks[stop - 1].operations
                crossing = blocks[stop].entering if stop < len(blocks) else 0
                option = (max(longest, run), sent + crossing, (*cuts, stop))
                if stop not in following or option < following[stop]:
                    following[stop] = option
        best = following
    starts = (0, *best[len(blocks)][2])
    return Shape(shape.name, [_run(blocks[a:b]) for a, b in zip(starts, starts[1:])], shape.output)


def _run(blocks: List[Block]) -> Block:
    name = blocks[0].name if len(blocks) == 1 else f"{blocks[0].name}-{blocks[-1].name}"
    return Block(name, blocks[0].entering, sum(b.operations for b in blocks), sum(b.memory for b in blocks))


def _block(name: str, numbers: int, operations: int, weights: int) -> Block:
    return Block(name, numbers * FLOAT_BYTES, operations, weights * FLOAT_BYTES)
