"""RedisSpool: the spool of several machines, in Redis Streams.

Producers add one compressed bundle of records for each put; workers of one consumer group take bundles,
deliver, and delete what Mixpanel has acknowledged. `servers` knows how Redis is reached, `streams` what is
said to it, `bundles` what an entry holds, `in_hand` what this process has taken, `own_puts` what became of
its own records, `withdrawn` who has opted out.
"""

from .redis_spool import RedisSpool

__all__ = ["RedisSpool"]
