"""What a replica holds in memory."""
