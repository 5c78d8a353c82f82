"""Everything that the simulator, the fit, the notebook and the experiments share; it imports none of them."""
