"""What is shown with git forge, and how its results were made; no part of the product."""
