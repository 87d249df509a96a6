"""Places other than the Hub: a folder, whatever fsspec reaches, and OCI registries.

A place is written as an address, and a bundle takes its repo's own name below it, without the owner:
`oci://registry.example/models` holds `oci://registry.example/models/qwen-7b-chat-gguf`.
"""

from __future__ import annotations

from convert.publish.destinations.address import find, located

__all__ = ["find", "located"]
