"""Schedules: which definition runs when, what was missed, and what each run came to."""
