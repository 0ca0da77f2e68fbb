"""The service over HTTP: from a request to the bytes of its reply."""
