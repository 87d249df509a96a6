"""Attest what is published: in-toto statements, signed if there is a key, and a bill of materials."""
