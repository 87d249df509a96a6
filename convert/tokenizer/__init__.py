"""One canonical tokenizer from the files of any checkpoint."""

from convert.tokenizer.assembly import load
from convert.tokenizer.kept import load_kept
from convert.tokenizer.model import AddedToken, Kind, Tokenizer, TokenType

__all__ = ["AddedToken", "Kind", "TokenType", "Tokenizer", "load", "load_kept"]
