"""What happens to a reply on its way: generators from events to events."""
