"""Gold: tables that are a function of silver, and views that are a function of tables. Imports no Polars.

docs/decisions/0120-a-table-is-a-function-of-silver.md
"""
