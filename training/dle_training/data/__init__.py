"""From a SOURCE to labelled, split groups of rows: sources, inference, split, dataset."""
