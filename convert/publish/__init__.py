"""What passed goes out: whole, attested, and read back."""
