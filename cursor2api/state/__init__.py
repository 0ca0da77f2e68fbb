"""What outlives a request: kept agents, values, and counts. All workers of a service share it.

`store.Store` is what the rest of the service uses. It has one backend, `sqlite_store.SqliteStore` or
`redis_store.RedisStore`, and says what holds while that fails. A backend raises one of its `faults` and has

  keep(digest, agent, note, seconds, limit) -> [agent]   keeps an agent under the digest of what it knows; it is at
                       work no more. Gives up the other that had this digest, and the eldest above the `limit`
  take(digest) -> (agent, note) | None    the agent, which is then nobody else's
  kept() -> int                           how many agents are kept
  begin(agent), done(agent)               an agent is at work in this process, is so no more
  expired() -> [agent]                    gives up the agents whose time is over, and those that were at work in a
                                          process that has been killed
  lost(others) -> [agent]                 gives up the agents that nobody would find when this process has ended,
                                          where `others` of the instance go on or do not

  put(space, key, data, seconds, limit)   keeps bytes. The eldest go when a space has over `limit` bytes
  get(space, key) -> bytes | None
  delete(space, key)

  count(name, most) -> float    counts a request: 0.0, or the seconds until there may be one more within a minute
  hold(name, holder, held, most) -> bool  `holder` now has `held` of the `most` (None: any number) that all may
                       have together; False changes nothing. The hold ends after LEASE_S unless the holder
                       calls `hold` again

  open(folder)         called once in each process, after the fork; `folder` is the instance's own, None for none
  tidy()               forgets what is over
"""

LEASE_S = 15.0
MINUTE = 60.0
