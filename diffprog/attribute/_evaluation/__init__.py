"""Evaluations of attribution methods: which are run, what is kept, and the report."""
