"""One file for one paper: each exports a `Config` and a `build`, and that is all it takes to add one."""
