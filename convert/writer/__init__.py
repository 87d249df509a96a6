"""Files planned to the byte, filled from one read of the source."""
