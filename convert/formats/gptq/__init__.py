"""GPTQ: few bits a weight; each column makes up for the errors of those before it."""
