"""The machine: devices, jobs, matrix products and memory layouts, and what is written down about it."""
