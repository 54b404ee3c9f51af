"""How training behaves: recipes, the estimate of log Z."""
