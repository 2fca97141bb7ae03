"""The paper's models as numbers, against what is published of them."""

from benchmarks.paper.settings import cpu_speeds, model_entry
from benchmarks.paper.shapes import gpt2, parts, resnet50, resnet56

KIB = 1024


def test_resnet50_has_the_published_operations_weights_and_boundaries() -> None:
    shape = resnet50()
    assert round(shape.operations / 2e9, 2) == 4.09  # 4.09 G multiply-adds (torchvision)
    assert round(sum(block.memory for block in shape.blocks) / 4e6, 1) == 25.5
    boundaries = [block.entering // KIB for block in shape.blocks]
    assert boundaries == [588, 784, *[3136] * 3, *[1568] * 4, *[784] * 6, *[392] * 3]


def test_resnet56_has_the_published_operations_and_grows_with_the_image() -> None:
    small, large = resnet56(), resnet56(224)
    assert round(small.operations / 2e9, 3) == 0.125  # 125 M multiply-adds (He et al.)
    assert sum(block.memory for block in small.blocks) == sum(block.memory for block in large.blocks)
    assert [block.entering * 49 for block in small.blocks] == [block.entering for block in large.blocks]


def test_gpt2_hands_over_its_hidden_states() -> None:
    shape = gpt2(128)
    assert {block.entering for block in shape.blocks[1:]} == {128 * 768 * 4} and shape.output == 50257 * 4


def test_parts_keep_every_operation_and_are_nearly_equal() -> None:
    for shape in (resnet50(), resnet56(), gpt2()):
        cut = parts(shape, 4)
        assert cut.operations == shape.operations and len(cut.blocks) == 4
        assert max(block.operations for block in cut.blocks) < 1.2 * shape.operations / 4
        assert cut.blocks[0].entering == shape.blocks[0].entering


def test_seconds_are_operations_over_speed() -> None:
    entry = model_entry(resnet50(), cpu_speeds())
    assert round(sum(entry.seconds["xavier"]), 3) == 0.448 and len(entry.bytes) == len(entry.units) + 1
