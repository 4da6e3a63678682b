"""Helpers of the course: each module is one stop on the way from records to verdicts."""
