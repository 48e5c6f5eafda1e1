"""Trained models scored, and their explanations judged; each leaves a record."""
