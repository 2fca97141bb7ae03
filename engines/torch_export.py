"""From transformers' code to an ONNX file: ResNet and GPT-2, with weights from a local directory or random by seed.

Two things are done to GPT-2 so that it can be cut and sent: its causal mask and its positions are constants (a mask
computed from the input is live across every layer, and no cut would be a single tensor), and its output is the logits
of the last token alone (12.3 MiB of logits become 196 KiB). The number of tokens is fixed; the batch stays free.

The one door to torch and transformers, with ``train_digits``. Extra: ``models``.
"""

import contextlib
import json
import logging
import math
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Tuple

from pamdi.core.errors import EngineError

OPSET = 18
BATCH_MAX = 64
IMAGE_PIXELS = 224
CLASSES = 1000
INLINE_BYTES_MAX = 1_500_000_000  # above, weights lie in a file beside: protobuf ends at 2 GiB
INSTALL = "pip install 'pamdi[models]' (torch, transformers, onnxscript)"


def versions() -> Dict[str, Any]:
    """What else decides the bytes of an export. Raises EngineError where torch or transformers is absent."""
    try:
        import onnxscript
        import torch
        import transformers
    except ImportError as error:
        raise EngineError(f"{error.name} is not installed: {INSTALL}, or give the path of an .onnx file") from error
    return {
        "opset": OPSET, "torch": torch.__version__, "transformers": transformers.__version__,
        "onnxscript": onnxscript.__version__,
    }  # fmt: skip


def export_with_torch(content: Dict[str, Any], path: Path, sequence: int, say: Callable[[str], None]) -> None:
    """Write the model that ``content`` describes (see ``named_models``) to ``path``, whole or not at all."""
    began = time.monotonic()
    say(f"{path.name}: exporting with torch, which takes up to a minute")
    with _quiet():
        network = _from_directory(content["directory"]) if "directory" in content else _random(**content)
        module, example, names = _wrapped(network, sequence, content.get("directory"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as staging:
                _export(module, example, names, Path(staging) / path.name)
                for file in sorted(Path(staging).iterdir(), reverse=True):  # the data first, the graph last
                    os.replace(file, path.parent / file.name)
        except OSError as error:
            raise EngineError(f"{path.parent}: {error.strerror}: make room, or choose another --cache") from error
    parameters = sum(parameter.numel() for parameter in module.parameters())
    say(f"{path.name}: {parameters / 1e6:.1f} million parameters, {time.monotonic() - began:.0f} s")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter deprecates its own calls, and logs which operators of torchvision it does without."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _random(name: str, seed: int) -> Any:
    """A network of the architecture's published size with random weights, the same for the same seed."""
    import torch
    import transformers

    torch.manual_seed(seed)
    if name == "gpt2":
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(attn_implementation="eager"))
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=CLASSES))


def _from_directory(folder: str) -> Any:
    """A network with the weights of a local directory. Nothing is fetched; a weight that lacks is an error."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    kind = transformers.GPT2LMHeadModel if config.model_type == "gpt2" else transformers.ResNetForImageClassification
    extra = {"attn_implementation": "eager"} if config.model_type == "gpt2" else {}
    try:
        network, told = kind.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, dtype="float32", **extra
        )
    except Exception as error:  # transformers, safetensors and torch each have their own
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EngineError(f"{folder}: its weights cannot be loaded ({line}): save the model again") from error
    missing = sorted(told["missing_keys"])
    if missing:
        raise EngineError(f"{folder}: {len(missing)} weights are missing, {missing[0]} first: save the whole model")
    return network


def _wrapped(network: Any, sequence: int, folder: Any) -> Tuple[Any, Any, Tuple[str, str]]:
    """The module to export, an example input, and the names of its input and output."""
    import torch

    network.eval()
    if network.config.model_type == "gpt2":
        if not 1 <= sequence <= network.config.n_positions:
            raise EngineError(f"--sequence {sequence}: this model takes 1 to {network.config.n_positions} tokens")
        return _last_token(network, sequence), torch.zeros((2, sequence), dtype=torch.int64), ("input_ids", "logits")
    pixels = _image_pixels(folder)
    return _logits(network), torch.zeros((2, network.config.num_channels, pixels, pixels)), ("image", "logits")


def _image_pixels(folder: Any) -> int:
    """The side of the square image that the directory's preprocessor makes; 224 where it does not say."""
    path = Path(folder or "") / "preprocessor_config.json"
    if folder is None or not path.is_file():
        return IMAGE_PIXELS
    size = json.loads(path.read_text(encoding="utf-8"))
    size = size.get("crop_size") or size.get("size") or IMAGE_PIXELS
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge") or IMAGE_PIXELS
    return int(size)


def _last_token(network: Any, sequence: int) -> Any:
    """input_ids, int64 [batch, sequence], to the logits of the token after the last, float32 [batch, vocabulary]."""
    import torch

    class LastToken(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            blocked = torch.full((sequence, sequence), torch.finfo(torch.float32).min).triu(1)
            self.register_buffer("mask", blocked[None, None])
            self.register_buffer("positions", torch.arange(sequence)[None])

        def forward(self, input_ids: Any) -> Any:
            hidden = self.network.transformer(
                input_ids, attention_mask=self.mask, position_ids=self.positions, use_cache=False
            ).last_hidden_state
            return self.network.lm_head(hidden[:, -1])

    return LastToken().eval()


def _logits(network: Any) -> Any:
    """image, float32 [batch, 3, side, side], to logits, float32 [batch, classes]."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: Any) -> Any:
            return self.network(image).logits

    return Logits().eval()


def _export(module: Any, example: Any, names: Tuple[str, str], path: Path) -> None:
    import torch

    weights_bytes = sum(math.prod(p.shape) * p.element_size() for p in module.parameters())
    torch.onnx.export(
        module, (example,), str(path), input_names=[names[0]], output_names=[names[1]],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=BATCH_MAX)},), opset_version=OPSET, dynamo=True,
        external_data=weights_bytes > INLINE_BYTES_MAX, verbose=False,
    )  # fmt: skip
    strip(path)


def strip(path: Path) -> None:
    """Remove what the exporter notes about the machine it ran on: stack traces, file names. The weights stay."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(path))
