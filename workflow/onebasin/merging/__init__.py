"""Merging: the average of permuted models, and the normalisation statistics that it needs anew."""
