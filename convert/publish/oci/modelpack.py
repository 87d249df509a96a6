"""A bundle as artifacts of CNCF's ModelPack: https://github.com/modelpack/model-spec."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from convert.errors import Failure
from convert.publish.bundle import Bundle, Candidate, ShippedFile
from convert.publish.card.label import label, shipping_of
from convert.publish.oci.referrer import descriptor, digest_of, refer, written
from convert.publish.oci.registry import MANIFEST_TYPE
from convert.publish.provenance.bom import spdx
from convert.source import is_legal

ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
_LAYER_TYPE = "application/vnd.cncf.model.{kind}.v1.raw"
# Docker, modctl and Kubernetes name a file after the one, ORAS and CRI-O after the other.
_PATH, TITLE = "org.cncf.model.filepath", "org.opencontainers.image.title"

_LARGEST_MANIFEST_BYTES = 4 << 20  # what every registry must take
_SCALES = ((10**12, "t"), (10**9, "b"), (10**6, "m"), (10**3, "k"))


@dataclass(frozen=True)
class Packed:
    """A manifest of a release, with what it names besides the files and what refers to it."""

    data: bytes
    config: ShippedFile
    referrers: tuple[bytes, ...]  # manifests whose subject it is
    tags: tuple[str, ...]  # the one that moves is the last

    @property
    def digest(self) -> str:
        """Return its name in the registry."""
        return digest_of(self.data)


def pack(bundle: Bundle, tags: tuple[str, ...]) -> tuple[Packed, ...]:
    """Pack each artifact for those who run one, if there are several, and last the whole repo.

    The whole is named by the tags, an artifact by the tags and its label: `Q4_K_M`, `v1-Q4_K_M`.
    """
    alone = bundle.candidates if len(bundle.candidates) > 1 else ()
    packed = [
        _packed(replace(bundle, candidates=(each,), files=tuple(_files(bundle, each))), _own_tags(each, tags))
        for each in alone
    ]
    return (*packed, _packed(bundle, tags))


def _packed(bundle: Bundle, tags: tuple[str, ...]) -> Packed:
    config = ShippedFile.made("config", written(_config(bundle)))
    named = {TITLE: bundle.title, "org.opencontainers.image.licenses": _license(bundle)}
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": descriptor(config, CONFIG_TYPE),
        "layers": list(_layers(bundle)),
        "annotations": {name: value for name, value in named.items() if value},
    }
    data = written(content)
    if len(data) > _LARGEST_MANIFEST_BYTES:
        raise Failure(
            f"{bundle.repo}: too many files for one artifact of a registry", "publish fewer targets"
        )
    return Packed(data, config, refer(bundle.files, digest_of(data), len(data)), tags)


def _own_tags(candidate: Candidate, tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(label(candidate) if tag == "latest" else f"{tag}-{label(candidate)}" for tag in tags)


def _files(bundle: Bundle, candidate: Candidate) -> Iterator[ShippedFile]:
    """List what belongs to an artifact: all but what is of others alone."""
    others = [each for each in bundle.candidates if each is not candidate]
    for file in bundle.files:
        if _is_of(candidate, file.path) or not any(_is_of(other, file.path) for other in others):
            yield file


def _is_of(candidate: Candidate, path: str) -> bool:
    shipped = {candidate.shipped_path(entry.path) for entry in candidate.manifest.files}
    return path in shipped or bool(candidate.documents and path.startswith(candidate.documents))


def _layers(bundle: Bundle) -> Iterator[dict[str, Any]]:
    weights = {path for each in bundle.candidates for path in _weights(each)}
    shipped = {each.shipped_path(entry.path) for each in bundle.candidates for entry in each.manifest.files}
    for file in bundle.files:
        kind = "weight" if file.path in weights else "weight.config" if file.path in shipped else "doc"
        kind = "doc" if is_legal(file.path) else kind
        layer = descriptor(file, _LAYER_TYPE.format(kind=kind))
        yield {**layer, "annotations": {_PATH: file.path, TITLE: file.path}}


def _weights(candidate: Candidate) -> Iterator[str]:
    pattern = shipping_of(candidate).weight_pattern(label(candidate))
    for entry in candidate.manifest.files:
        if pattern.fullmatch(entry.path):
            yield candidate.shipped_path(entry.path)


def _config(bundle: Bundle) -> dict[str, Any]:
    """Describe the model: without a time, so that the same files make the same artifact."""
    manifest = bundle.candidates[0].manifest
    described = {
        "title": bundle.title,
        "name": bundle.repo.rpartition("/")[2],
        "family": manifest.model.family if manifest.model else None,
        "sourceURL": f"https://huggingface.co/{manifest.source.repo}" if manifest.source.repo else None,
        "revision": manifest.source.commit,
        "licenses": [found] if (found := _license(bundle)) else None,
    }
    config = {
        "format": _format(path for each in bundle.candidates for path in _weights(each)),
        "paramSize": _size(manifest.model.parameter_count) if manifest.model else None,
        "quantization": ",".join(sorted({label(each) for each in bundle.candidates})),
        "capabilities": {"inputTypes": ["text"], "outputTypes": ["text"]},
    }
    return {
        "descriptor": {name: value for name, value in described.items() if value},
        "config": {name: value for name, value in config.items() if value},
        "modelfs": {"type": "layers", "diffIds": [f"sha256:{file.sha256}" for file in bundle.files]},
    }


def _license(bundle: Bundle) -> str | None:
    return spdx(bundle.license) if bundle.license else None


def _format(paths: Iterable[str]) -> str | None:
    """Name the format as its files do: what ONNX keeps outside of its graph has other names."""
    endings = {path.rpartition(".")[2] for path in paths} - {"data", "onnx_data"}
    return endings.pop() if len(endings) == 1 else None


def _size(parameters: int) -> str:
    scale, letter = next(((each, name) for each, name in _SCALES if parameters >= each), _SCALES[-1])
    return f"{parameters / scale:.1f}{letter}"
