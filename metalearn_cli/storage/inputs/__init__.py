"""Where pictures come from: folders, archives, containers, downloads."""
