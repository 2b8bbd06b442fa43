"""Files that appear whole or not at all, and folders of files that can be made again."""
