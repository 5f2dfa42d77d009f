"""Put independently trained networks into one low-loss basin by permuting their hidden units."""

__version__ = "0.1.0"
