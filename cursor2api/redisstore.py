"""The store of conversations.py in Redis: several processes and machines keep agents together.

Redis (6.2 or newer) holds digests, agents' ids and how they were told what they know; no prompt and no
key. If it fails, that is logged and for a while nothing is kept or found.
"""

import json
import logging
import time
from dataclasses import asdict

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .conversations import Kept
from .prompt import Known

log = logging.getLogger("cursor2api")

ANSWER_S = 1.0  # longest wait for Redis
PAUSE_S = 5.0   # without asking, after it has failed


class SharedConversations:
    """`scope` parts services that share a Redis but not a Cursor account; `limit` is for all together.

    Each agent is a member of a sorted set, by the time of its end in unix seconds: whoever removes it
    from there has it. A key for each digest holds the agent and what goes with it.
    """

    def __init__(self, url: str, scope: str, limit: int, age: float):
        self._redis = redis.Redis.from_url(
            url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S, decode_responses=True,
            retry=Retry(NoBackoff(), 1))  # a connection may have been closed since it was used last
        self._keys, self._agents = f"cursor2api:{scope}:", f"cursor2api:{scope}:agents"
        self._limit, self._age = limit, age
        self._down_until = 0.0

    def put(self, digest: str, kept: Kept) -> list[str]:
        """As that of Conversations; the agent itself comes back if Redis does not take it."""
        def work() -> list[str]:
            value = json.dumps({"agent": kept.agent, **asdict(kept.known)})
            with self._redis.pipeline() as pipeline:
                pipeline.zadd(self._agents, {kept.agent: time.time() + self._age})
                pipeline.set(self._keys + digest, value, px=int(self._age * 1000), get=True)
                pipeline.zcard(self._agents)
                _, before, count = pipeline.execute()
            given_up = [json.loads(before)["agent"]] if before else []
            given_up = [agent for agent in given_up if self._redis.zrem(self._agents, agent)]
            if (over := count - len(given_up) - self._limit) > 0:
                given_up += [agent for agent, _ in self._redis.zpopmin(self._agents, over)]
            return given_up
        return self._tried(work, [kept.agent])

    def take(self, digest: str) -> Kept | None:
        """As that of Conversations."""
        def work() -> Kept | None:
            value = self._redis.getdel(self._keys + digest)
            if value is None:
                return None
            known = json.loads(value)
            agent = known.pop("agent")
            return Kept(agent, Known(**known)) if self._redis.zrem(self._agents, agent) else None
        return self._tried(work, None)

    def expired(self) -> list[str]:
        """As that of Conversations; each process that asks does it for all."""
        def work() -> list[str]:
            old = self._redis.zrangebyscore(self._agents, "-inf", time.time())
            return [agent for agent in old if self._redis.zrem(self._agents, agent)]
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
        except (redis.RedisError, ValueError, TypeError, KeyError) as error:  # or what another version put
            self._down_until = time.monotonic() + PAUSE_S
            log.warning("redis failed: no agent is kept or reused for a while", extra={"facts": {
                "error": type(error).__name__}})
            return otherwise
