"""What a user would notice, asserted."""
