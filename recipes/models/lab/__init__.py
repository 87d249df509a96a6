"""The tiny models' laboratory: synthetic dialogues, vocabulary, network, training, evaluation, export."""
