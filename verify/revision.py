"""The revision of a verification: raised when its questions, checks or measurements change."""

# A report of another revision is not current: publishing refuses it, and `verify --only` keeps none of it.
REVISION = 7
