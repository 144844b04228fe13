"""Whom a model repository trusts: keys, rights, approvals, and what each commit of a branch does."""
