"""What training minimises and how: objectives, optimizers, learning-rate schedules."""
