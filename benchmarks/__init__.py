"""What `run.py bench` measures: this store beside its peers and its bars."""
