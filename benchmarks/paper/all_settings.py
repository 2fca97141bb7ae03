"""Every setting that ``make paper`` runs: the paper's own in full, and what they hinge on at fewer loads.

The paper's are run on both radios that can be simulated: one on which the most urgent frame of all stations goes first,
and one whose stations take turns, which knows no priority between them (``simulator/turns.py``). A real one is rather
the second.
"""

from typing import List

from benchmarks.paper.settings import GPU, Setting, colosseum, cpu_speeds, xavier_mesh, xavier_nano_multihop
from benchmarks.paper.shapes import gpt2, parts, resnet50, resnet56

PARTS = 4  # per model, as in the published demo
FEW_LOADS = (0.9, 1.1)


def headline() -> List[Setting]:
    """Those with published figures."""
    fifty, text, cpu = parts(resnet50(), PARTS), parts(gpt2(), PARTS), cpu_speeds()
    mesh, multihop = xavier_mesh([fifty] * 5, cpu), xavier_nano_multihop([fifty] * 4, cpu)
    return [mesh, multihop, colosseum([text] * 5, cpu), mesh.taking_turns(), multihop.taking_turns()]


def variations() -> List[Setting]:
    """What the headline hinges on, and the published demo."""
    fifty, small, large = (parts(shape, PARTS) for shape in (resnet50(), resnet56(), resnet56(224)))
    cpu = cpu_speeds()
    demo = xavier_mesh([small] * 2, cpu)
    return [
        demo._replace(name="demo A-E", title="5 Xavier, sources on A and D, ResNet-56", published=None),
        _varied("mesh, 2 sources", xavier_mesh([fifty] * 2, cpu)),
        _varied("mesh, 3 sources", xavier_mesh([fifty] * 3, cpu)),
        _varied("mesh, ResNet-56 at 224", xavier_mesh([large] * 5, cpu)),
        _varied("colosseum, ResNet-50", colosseum([fifty] * 5, cpu)),
        _varied("mesh, half the speed", xavier_mesh([fifty] * 5, cpu_speeds(0.05))),
        _varied("mesh, 3 x the speed", xavier_mesh([fifty] * 5, cpu_speeds(0.3))),
        _varied("mesh, TensorRT's speed", xavier_mesh([fifty] * 5, GPU)),
    ]


def _varied(name: str, setting: Setting) -> Setting:
    return setting._replace(name=name, published=None, loads=FEW_LOADS)
