"""The services we call, one adapter a file, all behind `open(plan, key) -> Stream`.

An adapter has `name` and
  models(key)        Cursor's model objects, or None where there is no list
  open(plan, key)    a Stream
  sweep(age)         deletes what a crash left, older than `age` seconds
  left()             ids of what this service has upstream, at work or left by a crash
  close(seconds)     returns when nothing is left running, or after that time: then the log tells what is
where `key` is the caller's own, or "" for the gateway's. A Stream has
  wait(seconds)      until the upstream has said yes, which it tells, at most for about that time; raises
                     a refusal
  iteration          events; begins with Waiting while the upstream has not answered
  follow_up(plan, reply)   the next events answer this plan on the same conversation
  close()            nothing is left running; callable at any time, more than once
An upstream whose agents can be kept (agents.py) has also
  open(plan, key, agent=id)   a Stream on an agent that is there and idle
  delete(agent)            off the request's path; the agent is of the gateway's own key
and its Stream
  ended(seconds)     whether Finish has come, or comes within that time without another word
  release()          what open and delete know the agent by; close() then leaves it alone
"""
