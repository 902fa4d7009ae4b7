"""The store in virtual time: real manager, nodes and protocol on simulated edges."""
