"""The table of accuracies: rows as data (rows.yaml), one result file a run, and the page that is written from them."""
