"""Read a SOURCE, infer its columns, split its rows and prepare the dataset for training."""
