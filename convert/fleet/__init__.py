"""Recipes on several machines: the stages of `run` as orders, which nodes carry out by the same commands.

Nothing is handed from node to node but small texts: the artifacts and reports are in a folder that all nodes
see, and every stage finds there what the one before has left. So a fleet that was stopped, or a node that
died, costs the work of the orders that were under way, and the same command goes on.
"""
