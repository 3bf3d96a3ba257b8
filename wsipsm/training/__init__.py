"""Training of networks on unlabelled pixels, by pretext tasks, pseudo labels and distillation."""
