"""Keys and values that are kept from step to step: appended to, and attended to by few queries at a time."""

from .append import append, is_overflowed
from .attend import attend, decode
from .bounds import CacheBounds, cache_bounds
from .cache import KVCache, empty_cache
from .paged import PagedKVCache, empty_paged_cache, in_order, release, share_prefix
from .planes import PlaneCache, empty_plane_cache

__all__ = [
    "CacheBounds",
    "KVCache",
    "PagedKVCache",
    "PlaneCache",
    "append",
    "attend",
    "cache_bounds",
    "decode",
    "empty_cache",
    "empty_paged_cache",
    "empty_plane_cache",
    "in_order",
    "is_overflowed",
    "release",
    "share_prefix",
]
