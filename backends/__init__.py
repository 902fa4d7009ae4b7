"""Engines whose data live elsewhere: etcd, spoken to over HTTP, and run here if asked to."""
