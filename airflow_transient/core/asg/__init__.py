"""Existing Auto Scaling groups: what of them is borrowed for a launch, and what is given back."""
