"""Evaluation of a fit.

prediction: networks run freely on held-out trials; tuning: of units to heading and velocity; weights: connectivity read
off a network; scores: estimates against the truth of a simulation; metrics: all of these, as metrics.json has them.
"""
