"""CTranslate2: one file of variables, as its own converter writes it."""
