"""A store in Redis (6.2 or newer), which several machines share: digests, agents' ids and how they were told what
they know, values, counts; no prompt and no key.

What has to be one step is a script, as Redis runs a script alone; where its answer is lost, it is run once more.
Times are those of Redis's own clock, but for the ends of agents.
"""

import time
import uuid
from collections.abc import Iterable
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from . import LEASE_S, MINUTE

ANSWER_S = 1.0  # longest wait for Redis
NOW = "local time = redis.call('TIME') local now = time[1] + time[2] / 1000000 "

KEEP = r"""
local given_up, before = {}, string.match(redis.call('GET', KEYS[1]) or '', '^[^\n]*')
if before ~= ARGV[1] and redis.call('ZREM', KEYS[2], before) == 1 then given_up = {before} end
redis.call('SET', KEYS[1], ARGV[1] .. '\n' .. ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
for _, each in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1 - ARGV[5])) do
  redis.call('ZREM', KEYS[2], each)
  table.insert(given_up, each)
end
return given_up
"""
EXPIRED = """
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
for _, each in ipairs(old) do redis.call('ZREM', KEYS[1], each) end
return old
"""
PUT = NOW + """
local value, index, sizes, name = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local function drop(each)
  redis.call('ZREM', index, each)
  redis.call('HINCRBY', sizes, '', 0 - (redis.call('HGET', sizes, each) or 0))
  redis.call('HDEL', sizes, each)
  redis.call('DEL', string.sub(value, 1, #value - #name) .. each)
end
drop(name)
for _, each in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now)) do drop(each) end
redis.call('SET', value, ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', index, now + ARGV[3] / 1000, name)
redis.call('HSET', sizes, name, #ARGV[2])
redis.call('HINCRBY', sizes, '', #ARGV[2])
while tonumber(redis.call('HGET', sizes, '')) > tonumber(ARGV[4]) do drop(redis.call('ZRANGE', index, 0, 0)[1]) end
"""
COUNT = NOW + f"""
if redis.call('ZSCORE', KEYS[1], ARGV[2]) then return '0' end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - {MINUTE:g})
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then
  return tostring(redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] + {MINUTE:g} - now)
end
redis.call('ZADD', KEYS[1], now, ARGV[2])
redis.call('EXPIRE', KEYS[1], {MINUTE:g})
return '0'
"""
HOLD = NOW + f"""
local sum = tonumber(ARGV[2])
local all = redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local count, ends = string.match(all[at + 1], '(%d+) (.+)')
  if tonumber(ends) <= now then redis.call('HDEL', KEYS[1], all[at])
  elseif all[at] ~= ARGV[1] then sum = sum + count end
end
if ARGV[3] ~= '' and sum > tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. now + {LEASE_S:g})
redis.call('EXPIRE', KEYS[1], {LEASE_S:g})
return 1
"""


class RedisStore:
    """`scope` parts services that share a Redis but not a Cursor account.

    Each agent is a member of a sorted set, by the time of its end in unix seconds: whoever removes it from there
    has it. A key for each digest holds the agent, a line feed and its note.
    """

    faults = redis.RedisError, OSError

    def __init__(self, url: str, scope: str):
        """Raises whatever redis-py raises for a URL that it does not take."""
        self._redis = redis.Redis.from_url(
            url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S,
            retry=Retry(NoBackoff(), 1))  # a connection may have been closed since it was used last
        self._redis.connection_pool.make_connection()  # without a call: it shows a URL with wrong options
        self._keys, self._agents = f"cursor2api:{scope}:", f"cursor2api:{scope}:agents"
        self._keep, self._expired, self._put, self._count, self._hold = map(
            self._redis.register_script, (KEEP, EXPIRED, PUT, COUNT, HOLD))

    def open(self, folder: Path | None) -> None:
        """Redis is there, or not: it needs no folder."""

    # Agents --------------------------------------------------------------------------------------

    def keep(self, digest: str, agent: str, note: str, seconds: float, limit: int) -> list[str]:
        return _text(self._keep([self._keys + digest, self._agents],
                                [agent, note, int(seconds * 1000), time.time() + seconds, limit]))

    def take(self, digest: str) -> tuple[str, str] | None:
        value = self._redis.getdel(self._keys + digest) or b""
        agent, _, note = value.decode(errors="replace").partition("\n")
        return (agent, note) if self._redis.zrem(self._agents, agent) else None

    def kept(self) -> int:
        return self._redis.zcard(self._agents)

    def begin(self, agent: str) -> None:
        """Redis knows no process that was killed: what it left at Cursor is found there by its age."""

    def done(self, agent: str) -> None:
        """See `begin`."""

    def expired(self) -> list[str]:
        return _text(self._expired([self._agents], [time.time()]))

    def lost(self, others: bool) -> list[str]:
        """The others, or the next start, go on with what is kept."""
        return []

    # Values --------------------------------------------------------------------------------------

    def put(self, space: str, key: str, data: bytes, seconds: float, limit: int) -> None:
        at = f"{self._keys}data:{space}"
        self._put([f"{at}:{key}", f"{at}:by-end", f"{at}:sizes"], [key, data, int(seconds * 1000), limit])

    def get(self, space: str, key: str) -> bytes | None:
        return self._redis.get(f"{self._keys}data:{space}:{key}")

    def delete(self, space: str, key: str) -> None:
        self._redis.delete(f"{self._keys}data:{space}:{key}")  # its size counts until its end

    # Counts --------------------------------------------------------------------------------------

    def count(self, name: str, most: int) -> float:
        return float(self._count([f"{self._keys}requests:{name}"], [most, uuid.uuid4().hex]))

    def hold(self, name: str, holder: str, held: int, most: int | None) -> bool:
        return bool(self._hold([f"{self._keys}held:{name}"], [holder, held, "" if most is None else most]))

    def tidy(self) -> None:
        """Redis forgets by itself."""


def _text(members: Iterable[bytes]) -> list[str]:
    return [member.decode(errors="replace") for member in members]
