"""What happens to each message: decode, load, decide, apply. What it needs from outside is declared in `ports`."""
