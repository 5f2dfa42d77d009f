"""Tables: what the jobs measured, collected, and summed up for readers."""
