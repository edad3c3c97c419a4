"""The page about tables: rows as data (rows.yaml), one result file a row, and the page that is written from them."""
