"""Measure how fast models and the loader are, beside what users would pick instead."""
