"""What people look at besides tables: pages of HTML with charts and pictures, and tables for spreadsheets."""
