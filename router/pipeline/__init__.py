"""Admit, decide, submit, continue: the path of a request in the frontend's process, and the library over it."""
