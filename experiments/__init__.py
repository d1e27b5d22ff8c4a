"""Claims of the paper, and of this project, run again at a size that two cores can bear."""
