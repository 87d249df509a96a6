"""AWQ: few bits a weight; columns are scaled so that what activations weigh most loses least."""
