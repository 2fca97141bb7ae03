"""The digits: 1,797 real handwritten digits of 8 x 8 pixels, from scikit-learn (UCI Optical Recognition of Handwritten
Digits, CC BY 4.0), kept in ``models/digits.npz`` so that running a fleet needs no scikit-learn.

The split is part of the data: ``test`` images were never trained on.
"""

from pathlib import Path
from typing import Tuple

import numpy as np

FILE = Path(__file__).resolve().parent / "models" / "digits.npz"


def as_input(images: "np.ndarray") -> "np.ndarray":
    """uint8 [n, 8, 8] in 0..16 to float32 [n, 3, 32, 32] in -1..1: each pixel becomes a 4 x 4 block in 3 channels."""
    scaled = images.astype(np.float32) / np.float32(8.0) - np.float32(1.0)
    large = scaled.repeat(4, axis=1).repeat(4, axis=2)
    return np.ascontiguousarray(np.broadcast_to(large[:, None], (len(images), 3, 32, 32)))


def load(part: str = "test") -> Tuple["np.ndarray", "np.ndarray"]:
    """The images as model input, float32 [n, 3, 32, 32], and their labels, int64 [n]. ``part``: train, test or all."""
    with np.load(FILE) as data:
        images, labels, is_test = data["images"], data["labels"], data["is_test"]
    chosen = np.ones(len(labels), bool) if part == "all" else is_test == (part == "test")
    return as_input(images[chosen]), labels[chosen].astype(np.int64)
