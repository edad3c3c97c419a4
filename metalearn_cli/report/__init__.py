"""Files for people: HTML pages with charts and pictures, figures, and tables for spreadsheets."""
