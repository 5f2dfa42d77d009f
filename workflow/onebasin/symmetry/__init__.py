"""Permutation symmetries of a network: what may be permuted (`spec`, `trace`), doing it (`apply`), proof (`check`)."""
