"""Which models meet which measure, and the record it leaves: time, score, explain, break."""
