"""Hidden neurons: which units a network has besides the recorded ones, and what is known of them.

units: the units of a network and the constraints on them; constraints: a network's weights projected onto these;
matching: hidden units compared with hidden neurons; diagnostics: evidence against the constraints.
"""
