"""The report as a page: cards, charts, tables, map."""
