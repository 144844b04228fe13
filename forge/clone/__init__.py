"""The set-up of one clone or server: filters, merge driver, hooks, and what is kept beside the repository."""
