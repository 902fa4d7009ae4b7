"""Placement, clock, membership, repair and the live network."""
