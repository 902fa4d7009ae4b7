"""What `run.py experiment` does: break a cluster on purpose and see what survives."""
