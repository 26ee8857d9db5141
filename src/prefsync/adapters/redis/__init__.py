"""Adapters for Redis and Valkey (extra ``redis``): cache, notifier, and the one link that they share."""

from importlib.util import find_spec

from prefsync.errors import MissingExtraError

if find_spec("redis") is None or find_spec("hiredis") is None:
    raise MissingExtraError("Redis (prefsync.adapters.redis)", "redis")

from prefsync.adapters.redis.cache import RedisCache
from prefsync.adapters.redis.cluster import RedisClusterLink
from prefsync.adapters.redis.cluster_notifier import RedisClusterNotifier
from prefsync.adapters.redis.link import RedisLink
from prefsync.adapters.redis.notifier import RedisNotifier
from prefsync.adapters.redis.tickets import RedisTickets

__all__ = [
    "RedisCache",
    "RedisClusterLink",
    "RedisClusterNotifier",
    "RedisLink",
    "RedisNotifier",
    "RedisTickets",
]
