"""The store of conversations.py in Redis: several processes and machines keep agents together.

Redis (6.2 or newer) holds digests, agents' ids and how they were told what they know; no prompt and no
key. If it fails, that is logged and for a while nothing is kept or found.
"""

import json
import logging
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .store import WaitingAgent
from ..prompt import Briefing

log = logging.getLogger("cursor2api")

ANSWER_S = 1.0  # longest wait for Redis
PAUSE_S = 5.0   # without asking, after it has failed
# An agent's id and that of its last run. They go into paths at Cursor, and Redis may hold anything.
AGENT = re.compile(r"(bc|agent)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(/[\w-]{0,100})?", re.ASCII)


class RedisStore:
    """`scope` parts services that share a Redis but not a Cursor account; `limit` is for all together.

    Each agent is a member of a sorted set, by the time of its end in unix seconds: whoever removes it
    from there has it. A key for each digest holds the agent and what goes with it.
    """

    def __init__(self, url: str, scope: str, limit: int, age: float):
        """Raises ValueError and TypeError for a URL that redis-py does not take."""
        self._redis = redis.Redis.from_url(
            url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S, decode_responses=True,
            retry=Retry(NoBackoff(), 1))  # a connection may have been closed since it was used last
        self._redis.connection_pool.make_connection()  # without a call: it shows a URL with wrong options
        self._keys, self._agents = f"cursor2api:{scope}:", f"cursor2api:{scope}:agents"
        self._limit, self._age = limit, age
        self._down_until = 0.0

    def put(self, digest: str, kept: WaitingAgent) -> list[str]:
        """As that of AgentStore; the agent itself comes back if Redis does not take it."""
        def work() -> list[str]:
            value = json.dumps({"agent": kept.agent, **asdict(kept.briefing)})
            with self._redis.pipeline() as pipeline:  # a transaction, as many may put at once
                pipeline.set(self._keys + digest, value, px=int(self._age * 1000), get=True)
                pipeline.zadd(self._agents, {kept.agent: time.time() + self._age})
                pipeline.zrange(self._agents, 0, -1 - self._limit)
                pipeline.zremrangebyrank(self._agents, 0, -1 - self._limit)
                before, _, given_up, _ = pipeline.execute()
            given_up = _agents(given_up)
            before = before and _kept(before)
            if before and self._redis.zrem(self._agents, before.agent):
                given_up.append(before.agent)
            return given_up
        return self._tried(work, [kept.agent])

    def take(self, digest: str) -> WaitingAgent | None:
        """As that of AgentStore."""
        def work() -> WaitingAgent | None:
            value = self._redis.getdel(self._keys + digest)
            kept = value and _kept(value)
            return kept if kept and self._redis.zrem(self._agents, kept.agent) else None
        return self._tried(work, None)

    def expired(self) -> list[str]:
        """As that of AgentStore; each process that asks does it for all."""
        def work() -> list[str]:
            old = self._redis.zrangebyscore(self._agents, "-inf", time.time())
            return _agents(agent for agent in old if self._redis.zrem(self._agents, agent))
        return self._tried(work, [])

    def close(self) -> list[str]:
        """Nothing is lost with this process: the others go on with what is kept."""
        self._redis.close()
        return []

    def _tried(self, work, otherwise):
        if time.monotonic() < self._down_until:
            return otherwise
        try:
            return work()
        except (redis.RedisError, UnicodeDecodeError) as error:
            self._down_until = time.monotonic() + PAUSE_S
            log.warning("redis failed: no agent is kept or reused for a while", extra={"facts": {
                "error": type(error).__name__}})
            return otherwise


def _agents(members: Iterable[str]) -> list[str]:
    """Those that are agents."""
    return [member for member in members if AGENT.fullmatch(member)]


def _kept(value: str) -> WaitingAgent | None:
    """None for what another version, or somebody else, has put there: its agent is deleted by its age."""
    with suppress(ValueError):
        match json.loads(value):
            case {"agent": str(agent), "nonce": str(nonce), "tools": str(tools), "left_out": int(left_out)
                  } if AGENT.fullmatch(agent):
                return WaitingAgent(agent, Briefing(nonce, tools, left_out))
    return None
