"""The services we call, one adapter a file; a Run (run.py) is how a reply hears what one of them says.

An adapter has `name` and
  models(key)        Cursor's model objects, or None where there is no list
  open(prompt, key="", queue=None) -> Run
  sweep(age)         deletes what a crash left, older than `age` seconds
  left()             ids of what this service has upstream, at work or left by a crash
  share(folder)      called once in each process, after the fork: what its workers have in common is in the folder
  retire()           from now on nobody begins to use this process's bridge
  close(seconds)     returns when nothing is left running, or after that time: then the cloud adapter logs what is
where `key` is the caller's own, or "" for the gateway's, and runs with one `queue` are heard side by side.
An adapter whose agents can be kept has also
  open(..., agent=name)    a Run on an agent that is there and idle
  delete(agent)            off the request's path; the agent is of the gateway's own key
An adapter gives its runs an Agent, all of whose methods are called in the run's own thread and may block:
  answer(run)        takes the run's prompt, and says the events of its answer; raises ApiError and Ended
  delete()           nothing of the agent is left; called at the end of a run that was not released
  leave()            the agent waits for its next run; called at the end of one that was released
  name               what `open` and `delete` know the agent by
"""
