"""Processes: those that are started, waited for and ended, and the end of this one."""
