"""Progress, tables and reports: the only code that prints."""
