"""Cursor's SDK as an upstream: the adapter, the life of its bridge, and the bridge's keeper."""
