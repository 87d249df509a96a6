"""How fast this machine does each kind of work: measured once, in milliseconds, and kept for later plans."""

from convert.writer.speed.table import Disk, Speeds

__all__ = ["Disk", "Speeds"]
