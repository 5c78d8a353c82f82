"""Errors that are meant for the user."""


class BadInput(Exception):
    """Something the user gave cannot be used; the message is one sentence for them."""
