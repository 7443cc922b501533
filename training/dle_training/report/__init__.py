"""What a person reads about a run: `report.html` and its figures."""
