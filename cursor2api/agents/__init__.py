"""Which agent at Cursor answers a conversation, and which wait for theirs to go on."""
