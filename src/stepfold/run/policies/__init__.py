"""What a run does, period by period."""
