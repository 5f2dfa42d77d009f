"""How sharp the loss is at a network: traces and the top eigenvalue of the Hessian of its mean cross-entropy."""
