"""Speak to an OCI registry: its calls, uploads in chunks, and the logins of docker and podman."""
