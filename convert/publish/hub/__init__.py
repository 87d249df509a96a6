"""Speak to the Hub as somebody who may write there: the session, uploads, and what its refusals mean."""
