"""The services we call, one adapter a file, all behind `open(plan) -> Stream`.

An adapter has `name`, `models() -> list of Cursor's model objects, or None where it has no list`, and
`open(plan)`. A Stream has
  wait(seconds)      until the upstream has said yes; raises its refusal; returns after the time anyway
  iteration          events; begins with Waiting while the upstream has not answered
  follow_up(plan, reply)   the next events answer this plan on the same conversation
  close()            nothing is left running; callable at any time, more than once
"""
