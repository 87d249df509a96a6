"""A model's files, pinned to a commit and checked: from a local folder, the Hub, or the cache on disk.

`list_source` lists the files, `fetch_small` fetches everything but the weights, `fetch` fetches all.
"""

from convert.source.digest import digest_of_all
from convert.source.fetch import (
    fetch,
    fetch_adapter,
    fetch_files,
    fetch_small,
    list_dataset,
    list_source,
    missing_bytes,
)
from convert.source.hub import Hub
from convert.source.listing import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Listing, Pinned, is_legal
from convert.source.retry import RetryLimits

__all__ = [
    "ADAPTER_CONFIG",
    "ADAPTER_WEIGHTS",
    "Hub",
    "Listing",
    "Pinned",
    "RetryLimits",
    "digest_of_all",
    "fetch",
    "fetch_adapter",
    "fetch_files",
    "fetch_small",
    "is_legal",
    "list_dataset",
    "list_source",
    "missing_bytes",
]
