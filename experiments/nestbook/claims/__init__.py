"""The paper's findings, and what records say of each."""
