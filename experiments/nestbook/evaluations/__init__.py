"""Score trained models and judge their explanations; each evaluation leaves a record."""
