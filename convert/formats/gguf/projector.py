"""llama.cpp's projector file: what reads pictures for a model, next to the file of its text decoder."""

import itertools
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import gguf

from convert.checkpoint import TensorInfo
from convert.deviation import AS_SOURCE, Deviation
from convert.errors import Failure
from convert.formats.gguf.header import Entry, Field, align, pack, tensor_bytes
from convert.formats.gguf.metadata import identity, packed
from convert.formats.gguf.tensors import find_graph
from convert.model.config import Config, read_config
from convert.model.families import family, supported
from convert.model.projector import Projector, Tensor
from convert.model.source import Model
from convert.model.tensor import Origin, Ref, Role
from convert.writer.codecs.plain import Plain
from convert.writer.layout import Layout, Piece, Slot

# The first that is there says how pictures are made ready; newer models put it inside a processor's.
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
FILE_TYPE = 1  # mostly F16
# What the names of a part begin with.
_STEM = re.compile(r"(?:model\.)?[^.]+\.")


@dataclass(frozen=True)
class Part:
    """A model's tower, with its config and that of its preprocessor."""

    projector: Projector
    config: Config
    preprocessor: Config

    def tensors(self, names: Collection[str] | None) -> tuple[Tensor, ...]:
        """List the tensors, by the first spelling that the source has all of; by the first of all unseen."""
        spelled = [tuple(spelling(self.config)) for spelling in self.projector.spellings]
        if names is None:
            return spelled[0]
        for tensors in spelled:
            if all(tensor.source in names for tensor in tensors):
                return tensors
        missing = next(tensor.source for tensor in spelled[0] if tensor.source not in names)
        raise Failure(
            f"{missing} is missing from the checkpoint, which the projector file needs",
            "leave gguf.mmproj out, or fetch the checkpoint again",
        )


def find_part(model: Model) -> Part:
    """Find what a model reads pictures with, or refuse it by name where no projector file can be written."""
    config = read_config(model.folder)
    graph = find_graph(model.decoder)
    projector = graph.projector if graph else None
    if projector is None:
        able = ", ".join(name for name in supported() if (one := family(name).gguf) and one.projector)
        raise Failure(
            f"targets.gguf.mmproj: no projector file can be written for {model.decoder.family}",
            f"leave it out; families that can: {able}",
        )
    if not config.has("vision_config"):
        raise Failure(
            "targets.gguf.mmproj: the source reads no pictures: config.json has no vision_config",
            "leave it out, or name the model that has the vision tower",
        )
    name = next((name for name in PREPROCESSORS if (model.folder / name).is_file()), None)
    if name is None:
        raise Failure(
            f"{model.folder}: there is no {' or '.join(PREPROCESSORS)}",
            "it says how pictures are made ready; fetch it from where the model came from",
        )
    preprocessor = read_config(model.folder, name)
    return Part(projector, config, preprocessor.section("image_processor") or preprocessor)


def lay_out(model: Model, part: Part, source: Mapping[str, TensorInfo] | None) -> Layout:
    """Plan the file; each of its tensors is one of the source's, whole."""
    tensors = part.tensors(source)
    for tensor in tensors:
        wanted = tensor.source_shape
        found = source[tensor.source].shape if source else wanted
        if found != wanted:
            raise Failure(
                f"{tensor.source} is {found}, and config.json makes it {wanted}",
                "the weights and config.json belong to different models, or one is damaged",
            )
    sizes = [align(tensor_bytes(tensor.shape, tensor.type)) for tensor in tensors]
    offsets = list(itertools.accumulate(sizes, initial=0))
    entries = [
        Entry(tensor.name, tensor.shape, tensor.type, offset)
        for tensor, offset in zip(tensors, offsets, strict=False)
    ]
    header = pack(_fields(model, part, tensors), entries)
    slots = tuple(
        Slot(tensor.name, (_piece(tensor),), Plain(tensor.type), (len(header) + offset,))
        for tensor, offset in zip(tensors, offsets, strict=False)
    )
    return Layout(f"mmproj-{model.title}.gguf", len(header) + offsets[-1], ((0, header),), slots)


def unused(part: Part, source: Mapping[str, TensorInfo] | None) -> Iterator[Deviation]:
    """Name what belongs to the tower and has no place in the file."""
    taken = {tensor.source for tensor in part.tensors(source)}
    stems = {_STEM.match(name)[0] for name in taken}  # type: ignore[index] # every name has a beginning
    left = {
        name.rpartition(".")[0] for name in source or () if name not in taken and name.startswith((*stems,))
    }
    for name in sorted(left):
        yield Deviation(name, AS_SOURCE, "without", "the projector file has no place for it")


def _piece(tensor: Tensor) -> Piece:
    return Piece(
        Ref(Role.PROJECTOR),
        tensor.shape[0],
        math.prod(tensor.shape[1:]),
        arrange=tensor.arrange,
        origin=Origin(tensor.source, tensor.share[0] * tensor.shape[0]),
    )


def _fields(model: Model, part: Part, tensors: tuple[Tensor, ...]) -> dict[str, Field]:
    writer = gguf.GGUFWriter(None, "clip")
    writer.add_type(gguf.GGUFType.MMPROJ)
    count = sum(math.prod(tensor.shape) for tensor in tensors)
    identity(writer, model, (count, 0, 0, 0))
    writer.add_file_type(FILE_TYPE)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in part.projector.keys(part.config, part.preprocessor).items():
        kind = gguf.GGUFValueType.get_type(value)
        writer.add_key_value(
            f"clip.{key}", value, gguf.GGUFValueType.UINT32 if kind is gguf.GGUFValueType.INT32 else kind
        )
    return packed(writer)
